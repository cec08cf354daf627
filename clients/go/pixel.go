package freqcap

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

// Pixel is an event to be counted by a signed address. User, DA and ID are required: with its id it counts once, however often
// the address is fetched.
type Pixel struct {
	User string   `json:"u"`
	DA   string   `json:"d"`
	ID   string   `json:"i"`
	Keys []string `json:"k,omitempty"`
	Kind string   `json:"n,omitempty"`
	// IssuedAt and ExpiresAt are ms since 1970; 0 is now, and an hour after IssuedAt. At most 7 days lie between them.
	IssuedAt  int64 `json:"iat"`
	ExpiresAt int64 `json:"exp"`
}

// Sign gives the path of the pixel, `/i.gif?e=..&s=..`, signed where the ad is served: no call is made. Macros of players go
// behind it, as `&t=[TIMESTAMP]`.
func (p Pixel) Sign(kid, secret string) string {
	if p.IssuedAt == 0 {
		p.IssuedAt = time.Now().UnixMilli()
	}
	if p.ExpiresAt == 0 {
		p.ExpiresAt = p.IssuedAt + time.Hour.Milliseconds()
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	// Texts and numbers always encode.
	_ = encoder.Encode(struct {
		Pixel
		Kid string `json:"kid"`
	}{p, kid})
	event := base64.RawURLEncoding.EncodeToString(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(event))
	return "/i.gif?e=" + event + "&s=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
