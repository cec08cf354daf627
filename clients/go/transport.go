package freqcap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const answerBytesMax = 64 << 20

type seconds = *time.Duration

// transport sends calls to one service.
type transport struct {
	base    string
	client  *http.Client
	keyFile string

	mu  sync.Mutex
	key string
}

// once makes one call and decodes the answer of a 2xx into `answer`.
func (t *transport) once(ctx context.Context, method, path, form string, body []byte, answer any) error {
	for again := true; ; again = false {
		status, header, data, err := t.exchange(ctx, method, path, form, body)
		if err != nil {
			return unavailable(ctx, err)
		}
		if status == http.StatusUnauthorized && again && t.keyChanged() {
			continue
		}
		return judge(status, header, data, answer)
	}
}

func (t *transport) exchange(ctx context.Context, method, path, form string, body []byte) (int, http.Header, []byte, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, t.base+path, reader)
	if err != nil {
		return 0, nil, nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", form)
	}
	// An empty list marks the call as repeatable and sends nothing: net/http then repeats it when a kept connection is gone.
	request.Header["X-Idempotency-Key"] = nil
	t.authorize(request)
	response, err := t.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
	if err == nil && len(data) > answerBytesMax {
		err = fmt.Errorf("an answer of over %d bytes", answerBytesMax)
	}
	return response.StatusCode, response.Header, data, err
}

func (t *transport) authorize(request *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.key != "" {
		request.Header.Set("Authorization", "Bearer "+t.key)
	}
}

// keyChanged reads the key's file again: it may have been rotated.
func (t *transport) keyChanged() bool {
	if t.keyFile == "" {
		return false
	}
	key, err := readKey(t.keyFile)
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := err == nil && key != t.key
	if changed {
		t.key = key
	}
	return changed
}

func readKey(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("freqcap: cannot read the key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if key == "" {
		return "", fmt.Errorf("freqcap: %s is empty; it has to have the key's secret", file)
	}
	return key, nil
}

// judge makes an answer or an error of what came.
func judge(status int, header http.Header, data []byte, answer any) error {
	if status >= 200 && status < 300 {
		if err := json.Unmarshal(data, answer); err != nil {
			return &UnavailableError{Reason: Refusing, Detail: "not an answer of freqcap: " + err.Error()}
		}
		return nil
	}
	problem := Problem{Code: "unknown", Detail: "status " + strconv.Itoa(status)}
	_ = json.Unmarshal(data, &problem)
	if status < 500 {
		return &ProblemError{Status: status, Code: problem.Code, Detail: problem.Detail}
	}
	failed := &UnavailableError{Reason: Refusing, Detail: problem.Detail}
	if after, err := strconv.Atoi(header.Get("Retry-After")); err == nil && after >= 0 {
		wait := time.Duration(after) * time.Second
		failed.retryAfter = &wait
	}
	partial := BatchAnswer{}
	if json.Unmarshal(data, &partial) == nil && partial.Unavailable != nil {
		failed.partial = &partial
	}
	return failed
}

func unavailable(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return &UnavailableError{Reason: Timeout, Detail: err.Error()}
	}
	return &UnavailableError{Reason: Away, Detail: err.Error()}
}
