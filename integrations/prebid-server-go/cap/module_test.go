package cap

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prebid/openrtb/v20/openrtb2"
)

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, bad := range []string{
		`{}`,
		`{"endpoint":"freqcap:8080"}`,
		`{"endpoint":"http://f","timeout_ms":-1}`,
		`{"endpoint":"http://f","fail":"perhaps"}`,
		`{"endpoint":"http://f","user":["user.buyeruid"]}`,
		`{"endpoint":"http://f","pixel":{"endpoint":"http://p"}}`,
		`{"endpoint":"http://f","pixel":{"endpoint":"http://p","kid":"k","secret":"s","ttl_seconds":604801}}`,
	} {
		if _, err := readConfig(json.RawMessage(bad)); err == nil || !strings.HasPrefix(err.Error(), "freqcap.cap: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	c, err := readConfig(json.RawMessage(`{"enabled":true,"endpoint":"http://f:1/"}`))
	if err != nil || c.Endpoint != "http://f:1" || c.timeout() != 15*time.Millisecond || c.Fail != "open" {
		t.Errorf("%+v: %v", c, err)
	}
}

func TestTheFirstPlaceThatHasAnIDSaysWhoTheUserIs(t *testing.T) {
	places := []string{"user.eids[source=x.com]", "user.id", "device.ifa"}
	request := &openrtb2.BidRequest{}
	expect := func(want string) {
		t.Helper()
		if got := userOf(request, places); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	expect("")
	request.Device = &openrtb2.Device{IFA: "ifa"}
	expect("ifa")
	request.User = &openrtb2.User{ID: strings.Repeat("x", 257)}
	expect("ifa")
	request.User.ID = "id"
	expect("id")
	request.User.EIDs = []openrtb2.EID{{Source: "y.com", UIDs: []openrtb2.UID{{ID: "other"}}}, {Source: "x.com"}}
	expect("id")
	request.User.EIDs[1].UIDs = []openrtb2.UID{{ID: "eid"}}
	expect("eid")
}

func TestABidIsKnownByItsCreativeAndWhatItBelongsTo(t *testing.T) {
	bid := &openrtb2.Bid{CrID: "cr", CID: "c", DealID: "d", ADomain: []string{"a.com", "a.com", "b\n", "b.com"}}
	ad, ok := candidateOf("seat", bid)
	keys := strings.Join(ad.Keys, " ")
	if !ok || ad.DA != "seat:cr" || keys != "campaign:c deal:d adomain:a.com adomain:b.com" {
		t.Errorf("%+v", ad)
	}
	for i := 0; i < 30; i++ {
		bid.ADomain = append(bid.ADomain, strings.Repeat("x", i+1))
	}
	if ad, _ := candidateOf("seat", bid); len(ad.Keys) != keysMax {
		t.Errorf("%d keys", len(ad.Keys))
	}
	if _, ok := candidateOf("seat", &openrtb2.Bid{ID: "1"}); ok {
		t.Error("a bid without a creative is judged")
	}
}

func TestThePixelIsSignedAsTheClientsSignIt(t *testing.T) {
	// By the Python client.
	pixel := &pixelConfig{Endpoint: "https://p", Kid: "k1", Secret: "s", TTLSeconds: 3600}
	url := pixel.url("u1", candidate{"77", []string{"campaign:42"}}, "imp-1", time.UnixMilli(1795370000000))
	want := "https://p/i.gif?e=eyJ1IjoidTEiLCJkIjoiNzciLCJpIjoiaW1wLTEiLCJrIjpbImNhbXBhaWduOjQyIl0sImlhdCI6MTc5NTM3MDAwMDAwMCwiZXhwIjoxNzk1MzczNjAwMDAwLCJraWQiOiJrMSJ9&s=ULERBMjPGLS4UjjhYrO7Ig"
	if url != want {
		t.Error(url)
	}
	if impressionID("r", "s", "b", "i") == impressionID("r", "s", "b", "j") {
		t.Error("two impressions have one id")
	}
}
