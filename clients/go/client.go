// Package freqcap calls freqcap, the ad frequency-capping service.
package freqcap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Options of a client. The zero value of each but URL is its default.
type Options struct {
	// URL of the service; default http://127.0.0.1:8080.
	URL string
	// Key is the secret of a key; KeyFile a file that has it, which is read again once the key is refused.
	Key     string
	KeyFile string
	// DecisionDeadline of Cap, Check and Reserve; default 20 ms. Deadline of the other calls; default 2 s. The context's own
	// deadline holds, too.
	DecisionDeadline time.Duration
	Deadline         time.Duration
	// DenyOnTimeout: a decision without an answer refuses the ad, where else it shows it.
	DenyOnTimeout bool
	// HTTPClient replaces the client's own, for TLS settings or proxies.
	HTTPClient *http.Client
}

// Fallbacks counts the decisions that the client made itself, by reason.
type Fallbacks struct{ Timeout, Away, Unavailable int64 }

// Client calls one freqcap. It is safe for concurrent use, and keeps its connections.
//
// A decision (Cap, Check, Reserve) that has no answer before its deadline, finds nobody or is answered 5xx, is made here:
// allowed, or refused with DenyOnTimeout. Its Fallback says why. All other calls give an *UnavailableError then.
type Client struct {
	transport transport
	options   Options
	fallbacks struct{ timeout, away, unavailable atomic.Int64 }
}

// New makes a client.
func New(options Options) (*Client, error) {
	if options.URL == "" {
		options.URL = "http://127.0.0.1:8080"
	}
	base, err := url.Parse(options.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("freqcap: %q is not an http:// or https:// address", options.URL)
	}
	if options.Key != "" && options.KeyFile != "" {
		return nil, fmt.Errorf("freqcap: give the key or its file, not both")
	}
	if options.DecisionDeadline == 0 {
		options.DecisionDeadline = 20 * time.Millisecond
	}
	if options.Deadline == 0 {
		options.Deadline = 2 * time.Second
	}
	c := &Client{options: options}
	c.transport.base = strings.TrimRight(options.URL, "/")
	c.transport.key, c.transport.keyFile = options.Key, options.KeyFile
	if options.KeyFile != "" {
		if c.transport.key, err = readKey(options.KeyFile); err != nil {
			return nil, err
		}
	}
	c.transport.client = options.HTTPClient
	if c.transport.client == nil {
		c.transport.client = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     60 * time.Second,
			ForceAttemptHTTP2:   true,
		}}
	}
	return c, nil
}

// Fallbacks says how many decisions the client made itself so far.
func (c *Client) Fallbacks() Fallbacks {
	return Fallbacks{c.fallbacks.timeout.Load(), c.fallbacks.away.Load(), c.fallbacks.unavailable.Load()}
}

// CapQuery asks about one ad. User and DA are required.
type CapQuery struct {
	User, DA string
	Keys     []string
	Kind     string
	// At is an instant in ms; 0 is now.
	At int64
	// More has further parameters of the call.
	More url.Values
}

// CapDecision is a verdict; Fallback is empty where the service made it.
type CapDecision struct {
	CapAnswer
	Fallback Reason
}

// CheckDecision has the verdicts on several ads.
type CheckDecision struct {
	CheckAnswer
	Fallback Reason
}

// ReserveDecision has what was reserved.
type ReserveDecision struct {
	ReserveAnswer
	Fallback Reason
}

// Cap gives the verdict on one ad.
func (c *Client) Cap(ctx context.Context, q CapQuery) (CapDecision, error) {
	asked := url.Values{}
	for name, values := range q.More {
		asked[name] = values
	}
	if len(q.Keys) > 0 {
		asked["key"] = q.Keys
	}
	if q.Kind != "" {
		asked.Set("kind", q.Kind)
	}
	if q.At != 0 {
		asked.Set("at", strconv.FormatInt(q.At, 10))
	}
	path := "/cap/" + segment(q.User) + "/" + segment(q.DA)
	if len(asked) > 0 {
		// A space as %20 is a space to everybody.
		path += "?" + strings.ReplaceAll(asked.Encode(), "+", "%20")
	}
	var made CapDecision
	fallback, err := c.decide(ctx, http.MethodGet, path, nil, &made.CapAnswer)
	if made.Fallback = fallback; fallback != "" {
		kind := q.Kind
		if kind == "" {
			kind = "impression"
		}
		made.CapAnswer = CapAnswer{User: q.User, DA: q.DA, Kind: kind, Capped: c.options.DenyOnTimeout, Rules: []RuleVerdict{}}
	}
	return made, err
}

// Check gives the verdicts on up to 1,000 ads, in their order.
func (c *Client) Check(ctx context.Context, body CheckBody) (CheckDecision, error) {
	body.Candidates = noNil(body.Candidates)
	var made CheckDecision
	fallback, err := c.decide(ctx, http.MethodPost, "/check", body, &made.CheckAnswer)
	if made.Fallback = fallback; fallback != "" {
		made.CheckAnswer = CheckAnswer{User: body.User, Results: make([]CandidateVerdict, len(body.Candidates))}
		for i, one := range body.Candidates {
			made.Results[i] = CandidateVerdict{DA: one.DA, Capped: c.options.DenyOnTimeout}
		}
	}
	return made, err
}

// Reserve takes the first ads that are not capped and counts them at once. Without an ID one is made. Count with the same user,
// da, kind and id confirms. Where the decision is made here, the first Want are named, or none with DenyOnTimeout; nothing is
// counted then.
func (c *Client) Reserve(ctx context.Context, body ReserveBody) (ReserveDecision, error) {
	return c.reserve(ctx, &body, &body)
}

// ReserveForGood is Reserve without confirmation: what it takes counts at once and for good.
func (c *Client) ReserveForGood(ctx context.Context, body ReserveBody) (ReserveDecision, error) {
	return c.reserve(ctx, &body, &struct {
		*ReserveBody
		TTL *string `json:"ttl"`
	}{ReserveBody: &body})
}

func (c *Client) reserve(ctx context.Context, body *ReserveBody, sent any) (ReserveDecision, error) {
	body.Candidates = noNil(body.Candidates)
	if body.ID == "" {
		body.ID = newID()
	}
	var made ReserveDecision
	fallback, err := c.decide(ctx, http.MethodPost, "/reserve", sent, &made.ReserveAnswer)
	if made.Fallback = fallback; fallback != "" {
		made.ReserveAnswer = ReserveAnswer{ID: body.ID, Reserved: []Reserved{}, Refused: []Refused{}}
		want := int64(1)
		if body.Want != nil {
			want = *body.Want
		}
		for i := 0; !c.options.DenyOnTimeout && i < len(body.Candidates) && int64(i) < want; i++ {
			made.Reserved = append(made.Reserved, Reserved{DA: body.Candidates[i].DA})
		}
	}
	return made, err
}

// Release gives back what was reserved under an id, or one ad of it.
func (c *Client) Release(ctx context.Context, body ReleaseBody) (ReleaseAnswer, error) {
	var answer ReleaseAnswer
	return answer, c.ask(ctx, c.options.Deadline, http.MethodPost, "/release", body, &answer)
}

// UserCaps gives every key capped now for a user.
func (c *Client) UserCaps(ctx context.Context, user string) (UserCaps, error) {
	var answer UserCaps
	return answer, c.ask(ctx, c.options.Deadline, http.MethodGet, "/users/"+segment(user)+"/caps", nil, &answer)
}

// decide asks, and says why there was no answer where the decision is the client's.
func (c *Client) decide(ctx context.Context, method, path string, body, answer any) (Reason, error) {
	err := c.ask(ctx, c.options.DecisionDeadline, method, path, body, answer)
	failed, ok := err.(*UnavailableError)
	if !ok {
		return "", err
	}
	switch failed.Reason {
	case Timeout:
		c.fallbacks.timeout.Add(1)
	case Away:
		c.fallbacks.away.Add(1)
	default:
		c.fallbacks.unavailable.Add(1)
	}
	return failed.Reason, nil
}

func (c *Client) ask(ctx context.Context, deadline time.Duration, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var data []byte
	if body != nil {
		data = encode(body)
	}
	return c.transport.once(ctx, method, path, "application/json", data, answer)
}

// segment is an id as a part of a path. A `.` or `..` alone would be taken for a folder.
func segment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}

// encode is the JSON of a body, with `<`, `>` and `&` as they are. Bodies are texts, numbers and lists, and always encode.
func encode(body any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

func noNil(candidates []CandidateBody) []CandidateBody {
	whole := make([]CandidateBody, len(candidates))
	copy(whole, candidates)
	for i := range whole {
		if whole[i].Keys == nil {
			whole[i].Keys = []string{}
		}
	}
	return whole
}

func newID() string {
	var random [16]byte
	// It reads from the system, and ends the program where that has no randomness.
	_, _ = rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
