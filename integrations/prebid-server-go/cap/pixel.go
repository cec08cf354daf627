package cap

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"
)

// url signs the address that counts one impression. It counts once, however often it is fetched.
func (p *pixelConfig) url(user string, ad candidate, id string, now time.Time) string {
	claims := struct {
		User string   `json:"u"`
		DA   string   `json:"d"`
		ID   string   `json:"i"`
		Keys []string `json:"k,omitempty"`
		Iat  int64    `json:"iat"`
		Exp  int64    `json:"exp"`
		Kid  string   `json:"kid"`
	}{user, ad.DA, id, ad.Keys, now.UnixMilli(), now.UnixMilli() + p.TTLSeconds*1_000, p.Kid}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	// Texts and numbers always encode.
	_ = encoder.Encode(claims)
	event := base64.RawURLEncoding.EncodeToString(bytes.TrimSpace(text.Bytes()))
	mac := hmac.New(sha256.New, []byte(p.Secret))
	mac.Write([]byte(event))
	return p.Endpoint + "/i.gif?e=" + event + "&s=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// impressionID tells one bid of one auction from all others. The ids of requests and bids may be long or have anything in them.
func impressionID(request, seat, bid, imp string) string {
	named, _ := json.Marshal([]string{request, seat, bid, imp})
	sum := sha256.Sum256(named)
	return "pbs-" + hex.EncodeToString(sum[:16])
}
