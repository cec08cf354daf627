package cap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prebid/prebid-server/v4/util/jsonutil"
)

// config is `hooks.modules.freqcap.cap`.
type config struct {
	// Endpoint of freqcap, as http://freqcap:8080, and the secret of a key with the scope `decide`.
	Endpoint string `json:"endpoint"`
	Key      string `json:"key"`
	// TimeoutMs of each of the two calls of an auction; default 15.
	TimeoutMs int `json:"timeout_ms"`
	// User says where the user's id is, the first that has one: user.eids[source=S], user.id, device.ifa.
	User []string `json:"user"`
	// Fail is open (the default: without an answer bids pass) or closed (they are dropped).
	Fail string `json:"fail"`
	// Pixel, if it is set, has impressions counted by a signed address.
	Pixel *pixelConfig `json:"pixel"`
}

// pixelConfig: Endpoint is where the public listener of freqcap is reached, Kid and Secret are those of --pixel-keys.
type pixelConfig struct {
	Endpoint string `json:"endpoint"`
	Kid      string `json:"kid"`
	Secret   string `json:"secret"`
	// TTLSeconds for which an address holds; default 3,600.
	TTLSeconds int64 `json:"ttl_seconds"`
}

const (
	timeoutDefaultMs = 15
	ttlDefaultS      = 3_600
	ttlMaxS          = 7 * 24 * 3_600
)

func readConfig(text json.RawMessage) (*config, error) {
	c := &config{TimeoutMs: timeoutDefaultMs, Fail: "open"}
	if err := jsonutil.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("freqcap.cap: %w", err)
	}
	if err := isAddress(c.Endpoint); err != nil {
		return nil, fmt.Errorf("freqcap.cap: endpoint: %w", err)
	}
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if c.TimeoutMs <= 0 {
		return nil, fmt.Errorf("freqcap.cap: timeout_ms is %d", c.TimeoutMs)
	}
	if c.Fail != "open" && c.Fail != "closed" {
		return nil, fmt.Errorf("freqcap.cap: fail is open or closed, not %q", c.Fail)
	}
	if len(c.User) == 0 {
		c.User = []string{"user.id", "device.ifa"}
	}
	for _, place := range c.User {
		if _, ok := eidSource(place); !ok && place != "user.id" && place != "device.ifa" {
			return nil, fmt.Errorf("freqcap.cap: user: %q is none of user.eids[source=..], user.id, device.ifa", place)
		}
	}
	return c, c.Pixel.check()
}

func (p *pixelConfig) check() error {
	if p == nil {
		return nil
	}
	if err := isAddress(p.Endpoint); err != nil {
		return fmt.Errorf("freqcap.cap: pixel.endpoint: %w", err)
	}
	p.Endpoint = strings.TrimRight(p.Endpoint, "/")
	if p.Kid == "" || p.Secret == "" {
		return errors.New("freqcap.cap: pixel wants kid and secret")
	}
	if p.TTLSeconds == 0 {
		p.TTLSeconds = ttlDefaultS
	}
	if p.TTLSeconds < 0 || p.TTLSeconds > ttlMaxS {
		return fmt.Errorf("freqcap.cap: pixel.ttl_seconds is at most %d", ttlMaxS)
	}
	return nil
}

func (c *config) timeout() time.Duration { return time.Duration(c.TimeoutMs) * time.Millisecond }

func isAddress(text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	if parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return fmt.Errorf("%q is not an http:// or https:// address", text)
	}
	return nil
}

// eidSource is S of user.eids[source=S].
func eidSource(place string) (string, bool) {
	source, ok := strings.CutPrefix(place, "user.eids[source=")
	if !ok || !strings.HasSuffix(source, "]") {
		return "", false
	}
	return strings.TrimSuffix(source, "]"), true
}
