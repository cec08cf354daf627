package freqcap

import (
	"context"
	"errors"
	"math/rand"
	"net/http"
	"time"
)

const (
	batchEventsMax = 1_000
	batchBytesMax  = 1 << 20
	errorsMax      = 100
	retryFirst     = 50 * time.Millisecond
	retryMax       = 2 * time.Second
	retryAfterMax  = 60 * time.Second
	tryMax         = 10 * time.Second
)

// Count counts one event and gives the verdict after it. Without an ID one is made, so that it counts once however often it is
// sent. 503 is tried again until the deadline.
func (c *Client) Count(ctx context.Context, event EventBody) (EventAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Deadline)
	defer cancel()
	var answer EventAnswer
	return answer, c.untilTaken(ctx, encode(withID(event)), "application/json", &answer, func(*BatchAnswer) {})
}

// CountAll counts any number of events in batches. What is answered 503 is sent again, with the same ids, after Retry-After, for
// as long as the context lasts (a minute, where it has no deadline). Index of an error is the event's place among all. On an
// *UnavailableError, Answer is what was counted so far and Rest are the events to send later, with their ids.
func (c *Client) CountAll(ctx context.Context, events []EventBody) (BatchAnswer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	total := BatchAnswer{Errors: []EventError{}, Capped: []Capped{}}
	for before := 0; before < len(events); {
		batch, lines := nextBatch(events[before:])
		tries := tries{capped: map[[2]string]Capped{}}
		var last BatchAnswer
		err := c.untilTaken(ctx, lines, "application/x-ndjson", &last, tries.add)
		if failed := (*UnavailableError)(nil); errors.As(err, &failed) {
			failed.Answer = &total
			failed.Rest = batch
			for _, event := range events[before+len(batch):] {
				failed.Rest = append(failed.Rest, withID(event))
			}
		}
		if err != nil {
			return total, err
		}
		tries.add(&last)
		tries.into(&total, &last, int64(before), int64(len(batch)))
		before += len(batch)
	}
	return total, nil
}

// nextBatch is the events, with ids, of a bounded piece, and the lines to send.
func nextBatch(events []EventBody) ([]EventBody, []byte) {
	var batch []EventBody
	var lines []byte
	for _, event := range events {
		event = withID(event)
		line := append(encode(event), '\n')
		if len(batch) > 0 && (len(batch) == batchEventsMax || len(lines)+len(line) > batchBytesMax) {
			break
		}
		batch, lines = append(batch, event), append(lines, line...)
	}
	return batch, lines
}

func withID(event EventBody) EventBody {
	if event.ID == "" {
		event.ID = newID()
	}
	return event
}

// tries are the answers to one batch, which is sent until everything in it is taken. What an earlier try counted is a duplicate
// to the last one; it was counted by this call, all the same.
type tries struct {
	counted int64
	capped  map[[2]string]Capped
	order   [][2]string
}

func (t *tries) add(answer *BatchAnswer) {
	t.counted += answer.Counted
	for _, one := range answer.Capped {
		name := [2]string{one.User, one.Key}
		if _, known := t.capped[name]; !known {
			t.order = append(t.order, name)
		}
		t.capped[name] = one
	}
}

// into adds the batch, of whose events `before` came earlier, to the whole answer.
func (t *tries) into(total, last *BatchAnswer, before, events int64) {
	total.Counted += t.counted
	total.Late += last.Late
	total.Erased += last.Erased
	total.Ignored += last.Ignored
	total.Rejected += last.Rejected
	total.Duplicate += max0(events - t.counted - last.Late - last.Erased - last.Ignored - last.Rejected)
	for _, name := range t.order {
		total.Capped = append(total.Capped, t.capped[name])
	}
	for _, one := range last.Errors {
		if len(total.Errors) < errorsMax {
			one.Index += before
			total.Errors = append(total.Errors, one)
		}
	}
}

func shorter(one, other time.Duration) time.Duration {
	if one < other {
		return one
	}
	return other
}

func longer(one, other time.Duration) time.Duration {
	if one > other {
		return one
	}
	return other
}

func max0(n int64) int64 {
	if n < 0 {
		return 0
	}
	return n
}

// untilTaken sends events until they are taken. `partly` hears what a 503 counted nevertheless.
func (c *Client) untilTaken(ctx context.Context, data []byte, form string, answer any, partly func(*BatchAnswer)) error {
	pause := retryFirst
	for {
		try, cancel := context.WithTimeout(ctx, tryMax)
		err := c.transport.once(try, http.MethodPost, "/events", form, data, answer)
		cancel()
		failed, ok := err.(*UnavailableError)
		if !ok {
			return err
		}
		if failed.partial != nil {
			partly(failed.partial)
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()/2))
		if failed.retryAfter != nil {
			wait = shorter(*failed.retryAfter, retryAfterMax)
		}
		pause = shorter(pause*2, retryMax)
		until, _ := ctx.Deadline()
		if ctx.Err() != nil || time.Until(until) <= wait {
			return failed
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return failed
		case <-timer.C:
		}
	}
}
