package freqcap

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	streamRetryFirst = 100 * time.Millisecond
	streamRetryMax   = 10 * time.Second
	lineBytesMax     = 1 << 20
)

// StreamQuery says what a stream has.
type StreamQuery struct {
	// Shards, as `0-63`, and Keys, as `campaign:*`; empty is all.
	Shards, Keys string
	// FromNow leaves out what is capped already.
	FromNow bool
	// After is the id of an earlier event to go on from.
	After string
	// Silence after which a connection is given up; default 45 s.
	Silence time.Duration
}

// StreamEvent is `cap`, `checkpoint`, `snapshot_begin`, `snapshot_end`, `reset` or `lagged`. ID, if any, goes on after it.
type StreamEvent struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	ID    string          `json:"id"`
}

// Stream gives the changes of caps to `each` until it or the context ends it. It connects again after the last checkpoint
// whenever the connection ends. A refusal of the service is an error.
func (c *Client) Stream(ctx context.Context, query StreamQuery, each func(StreamEvent) error) error {
	pause := streamRetryFirst
	for {
		err := c.streamOnce(ctx, query, func(event StreamEvent) error {
			pause = streamRetryFirst
			if event.ID != "" {
				query.After = event.ID
			}
			return each(event)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var away *UnavailableError
		if err != nil && !errors.As(err, &away) {
			return err
		}
		if away != nil && away.retryAfter != nil {
			pause = longer(pause, shorter(*away.retryAfter, streamRetryMax))
		}
		// What came before the first checkpoint cannot be gone on from; only a snapshot has all of it.
		query.FromNow = false
		timer := time.NewTimer(time.Duration(float64(pause) * (0.5 + rand.Float64()/2)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = shorter(pause*2, streamRetryMax)
	}
}

func (c *Client) streamOnce(ctx context.Context, query StreamQuery, each func(StreamEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := query.Silence
	if silence == 0 {
		silence = 45 * time.Second
	}
	watch := time.AfterFunc(silence, cancel)
	defer watch.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.transport.base+"/caps/stream?"+query.parameters(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if query.After != "" {
		request.Header.Set("Last-Event-ID", query.After)
	}
	c.transport.authorize(request)
	response, err := c.transport.client.Do(request)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(response.Body, lineBytesMax))
		return judge(response.StatusCode, response.Header, data, nil)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), lineBytesMax)
	event := StreamEvent{Event: "message"}
	var data []string
	for lines.Scan() {
		watch.Reset(silence)
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" {
			if len(data) > 0 {
				event.Data = json.RawMessage(strings.Join(data, "\n"))
				// How long the reader takes over an event is no silence of the service.
				watch.Stop()
				if err := each(event); err != nil {
					return err
				}
				watch.Reset(silence)
			}
			event, data = StreamEvent{Event: "message"}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event.Event = value
		case "data":
			data = append(data, value)
		case "id":
			event.ID = value
		}
	}
	return &UnavailableError{Reason: Away, Detail: "the stream ended"}
}

func (q StreamQuery) parameters() string {
	asked := url.Values{}
	if q.Shards != "" {
		asked.Set("shards", q.Shards)
	}
	if q.Keys != "" {
		asked.Set("keys", q.Keys)
	}
	if q.After == "" {
		if q.FromNow {
			asked.Set("from", "now")
		} else {
			asked.Set("from", "snapshot")
		}
	}
	return asked.Encode()
}
