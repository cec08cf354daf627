package cap

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	answerBytesMax = 4 << 20
	candidatesMax  = 1_000
)

// service calls freqcap.
type service struct {
	endpoint string
	key      string
	timeout  time.Duration
	http     *http.Client
}

// verdict on a candidate.
type verdict struct {
	DA          string `json:"da"`
	Capped      bool   `json:"capped"`
	CappedUntil *int64 `json:"capped_until"`
	Rule        string `json:"rule"`
	Key         string `json:"key"`
}

func newService(c *config) *service {
	// A transport of its own, which keeps enough connections for all auctions at once.
	transport := &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	return &service{endpoint: c.Endpoint, key: c.Key, timeout: c.timeout(), http: &http.Client{Transport: transport}}
}

// cappedAdvertisers are the domains that are capped for a user now.
func (s *service) cappedAdvertisers(ctx context.Context, user string) ([]string, error) {
	var answer struct {
		Caps []struct {
			Key string `json:"key"`
		} `json:"caps"`
	}
	// A `.` or `..` alone would be taken for a folder.
	segment := url.PathEscape(user)
	if user == "." || user == ".." {
		segment = strings.ReplaceAll(user, ".", "%2E")
	}
	if err := s.call(ctx, http.MethodGet, "/users/"+segment+"/caps", nil, &answer); err != nil {
		return nil, err
	}
	var domains []string
	for _, one := range answer.Caps {
		if domain, ok := strings.CutPrefix(one.Key, advertiserLevel); ok {
			domains = append(domains, domain)
		}
	}
	return domains, nil
}

// check gives the verdicts on candidates, in their order.
func (s *service) check(ctx context.Context, user string, candidates []candidate) ([]verdict, error) {
	var verdicts []verdict
	for start := 0; start < len(candidates); start += candidatesMax {
		some := candidates[start:min(start+candidatesMax, len(candidates))]
		body, err := json.Marshal(map[string]any{"user": user, "candidates": some})
		if err != nil {
			return nil, err
		}
		var answer struct {
			Results []verdict `json:"results"`
		}
		if err := s.call(ctx, http.MethodPost, "/check", body, &answer); err != nil {
			return nil, err
		}
		if len(answer.Results) != len(some) {
			return nil, fmt.Errorf("%d verdicts on %d candidates", len(answer.Results), len(some))
		}
		verdicts = append(verdicts, answer.Results...)
	}
	return verdicts, nil
}

// call makes one call within the timeout.
func (s *service) call(ctx context.Context, method, path string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	// Both calls only read: an empty list has net/http repeat them when a kept connection is gone. Nothing is sent.
	request.Header["X-Idempotency-Key"] = nil
	if s.key != "" {
		request.Header.Set("Authorization", "Bearer "+s.key)
	}
	response, err := s.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("freqcap answered %d", response.StatusCode)
	}
	return json.Unmarshal(data, answer)
}
