package freqcap

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type step struct {
	Name     string
	Needs    string
	Base     string
	Client   *settings
	Call     string
	Args     json.RawMessage
	Times    int
	Expect   any
	Error    *expectedError
	Fallback Reason
	Counters map[string]int64
}

type settings struct {
	Key                string
	KeyFile            []string `json:"key_file"`
	DecisionDeadlineMs int64    `json:"decision_deadline_ms"`
	DeadlineMs         int64    `json:"deadline_ms"`
	OnTimeout          string   `json:"on_timeout"`
}

type expectedError struct {
	Status      int
	Code        string
	Unavailable Reason
	Rest        int
}

type vectors struct {
	Signing []struct {
		Name, Kid, Secret, URL string
		Claims                 claims
	}
	Steps []step
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile("../vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	run := "go-" + newID()[:12]
	var read vectors
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "{run}", run)), &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func service(t *testing.T) Options {
	t.Helper()
	url := os.Getenv("FREQCAP_URL")
	if url == "" {
		t.Skip("FREQCAP_URL is not set: script/clients starts what these tests want")
	}
	return Options{URL: url, Key: os.Getenv("FREQCAP_KEY"), DecisionDeadline: 30 * time.Second, Deadline: 30 * time.Second}
}

func nobodyListens(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// clientOf makes the client of a step.
func clientOf(t *testing.T, s step) *Client {
	t.Helper()
	options := Options{Key: s.Client.Key, DenyOnTimeout: s.Client.OnTimeout == "deny"}
	options.DecisionDeadline = time.Duration(s.Client.DecisionDeadlineMs) * time.Millisecond
	options.Deadline = time.Duration(s.Client.DeadlineMs) * time.Millisecond
	switch s.Base {
	case "":
		options.URL = service(t).URL
	case "refused":
		options.URL = nobodyListens(t)
	default:
		options.URL = os.Getenv("FREQCAP_FAKE") + s.Base
	}
	if s.Client.KeyFile != nil {
		options.KeyFile = filepath.Join(t.TempDir(), "key")
		write(t, options.KeyFile, s.Client.KeyFile[0])
	}
	client, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	if s.Client.KeyFile != nil {
		write(t, options.KeyFile, s.Client.KeyFile[1])
	}
	return client
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// arguments of all calls.
type arguments struct {
	Event       EventBody
	Events      []EventBody
	Repeat, Bad int
	Body        json.RawMessage
	User, DA    string
	Keys        json.RawMessage
	Kind        string
	At          int64
	From        string
	Take        int
	Kid, Secret string
	Claims      claims
}

type claims struct {
	User, DA, ID, Kind string
	Keys               []string
	Iat, Exp           int64
}

func (c claims) pixel() Pixel {
	return Pixel{User: c.User, DA: c.DA, ID: c.ID, Keys: c.Keys, Kind: c.Kind, IssuedAt: c.Iat, ExpiresAt: c.Exp}
}

func decoded[T any](t *testing.T, data json.RawMessage) (made T) {
	t.Helper()
	if err := json.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	return made
}

// run makes the call of a step: the answer, and why the client made it itself.
func run(t *testing.T, c *Client, s step) (any, Reason, error) {
	ctx := context.Background()
	args := decoded[arguments](t, s.Args)
	switch s.Call {
	case "count":
		answer, err := c.Count(ctx, args.Event)
		return answer, "", err
	case "count_all":
		for i := 0; i < args.Repeat; i++ {
			event := args.Event
			event.DA = fmt.Sprintf("%s-%d", event.DA, i)
			if args.Bad > 0 && i == args.Bad {
				event.User = ""
			}
			args.Events = append(args.Events, event)
		}
		if s.Client != nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(s.Client.DeadlineMs)*time.Millisecond)
			defer cancel()
		}
		answer, err := c.CountAll(ctx, args.Events)
		return answer, "", err
	case "cap":
		query := CapQuery{User: args.User, DA: args.DA, Kind: args.Kind, At: args.At}
		if args.Keys != nil {
			query.Keys = decoded[[]string](t, args.Keys)
		}
		answer, err := c.Cap(ctx, query)
		return answer.CapAnswer, answer.Fallback, err
	case "check":
		answer, err := c.Check(ctx, decoded[CheckBody](t, args.Body))
		return answer.CheckAnswer, answer.Fallback, err
	case "reserve":
		reserve := c.Reserve
		if ttl, named := decoded[map[string]any](t, args.Body)["ttl"]; named && ttl == nil {
			reserve = c.ReserveForGood
		}
		answer, err := reserve(ctx, decoded[ReserveBody](t, args.Body))
		return answer.ReserveAnswer, answer.Fallback, err
	case "release":
		answer, err := c.Release(ctx, decoded[ReleaseBody](t, args.Body))
		return answer, "", err
	case "pixel":
		response, err := http.Get(service(t).URL + args.Claims.pixel().Sign(args.Kid, args.Secret))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return map[string]string{"result": response.Header.Get("freqcap-result")}, "", nil
	case "user_caps":
		answer, err := c.UserCaps(ctx, args.User)
		return answer, "", err
	case "stream":
		var events []StreamEvent
		enough := errors.New("enough")
		query := StreamQuery{Keys: decoded[string](t, args.Keys), FromNow: args.From == "now"}
		err := c.Stream(ctx, query, func(event StreamEvent) error {
			if events = append(events, event); len(events) == args.Take {
				return enough
			}
			return nil
		})
		if err == enough {
			err = nil
		}
		return events, "", err
	}
	t.Fatalf("no call %q", s.Call)
	return nil, "", nil
}

// plain is a value as JSON has it.
func plain(t *testing.T, value any) (made any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return decoded[any](t, text)
}

func compare(wanted, got any, where string) error {
	switch wanted := wanted.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %v", where, got)
		}
		for name, inner := range wanted {
			if err := compare(inner, object[name], where+"."+name); err != nil {
				return err
			}
		}
		return nil
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(wanted) {
			return fmt.Errorf("%s is %v", where, got)
		}
		for i := range wanted {
			if err := compare(wanted[i], list[i], fmt.Sprintf("%s[%d]", where, i)); err != nil {
				return err
			}
		}
		return nil
	case string:
		if number, ok := got.(float64); wanted == "$int" && ok && number == float64(int64(number)) {
			return nil
		}
		if text, ok := got.(string); wanted == "$text" && ok && text != "" {
			return nil
		}
	}
	if wanted != got {
		return fmt.Errorf("%s is %v, not %v", where, got, wanted)
	}
	return nil
}

func TestSteps(t *testing.T) {
	shared, err := New(service(t))
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../openapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	paths := decoded[struct{ Paths map[string]any }](t, document).Paths
	for _, s := range readVectors(t).Steps {
		if _, has := paths[s.Needs]; s.Needs != "" && !has {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			client := shared
			if s.Client != nil {
				client = clientOf(t, s)
			}
			answer, fallback, err := run(t, client, s)
			for i := 1; i < s.Times; i++ {
				answer, fallback, err = run(t, client, s)
			}
			if s.Error != nil {
				compareError(t, s.Error, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := compare(s.Expect, plain(t, answer), "the answer"); err != nil {
				t.Error(err)
			}
			if fallback != s.Fallback {
				t.Errorf("the fallback is %q", fallback)
			}
			counted := client.Fallbacks()
			all := map[string]int64{"timeout": counted.Timeout, "away": counted.Away, "unavailable": counted.Unavailable}
			for reason, count := range s.Counters {
				if all[reason] != count {
					t.Errorf("%d fallbacks for %s", all[reason], reason)
				}
			}
		})
	}
}

func compareError(t *testing.T, wanted *expectedError, err error) {
	t.Helper()
	var problem *ProblemError
	var failed *UnavailableError
	switch {
	case wanted.Unavailable != "" && errors.As(err, &failed):
		if failed.Reason != wanted.Unavailable || len(failed.Rest) != wanted.Rest {
			t.Errorf("%v, %d to send again", failed, len(failed.Rest))
		}
		for _, event := range failed.Rest {
			if event.ID == "" {
				t.Error("an event to send again has no id")
			}
		}
	case errors.As(err, &problem):
		if problem.Status != wanted.Status || problem.Code != wanted.Code {
			t.Error(problem)
		}
	default:
		t.Errorf("the error is %v", err)
	}
}

func TestSigning(t *testing.T) {
	for _, v := range readVectors(t).Signing {
		if url := v.Claims.pixel().Sign(v.Kid, v.Secret); url != v.URL {
			t.Errorf("%s: %s, not %s", v.Name, url, v.URL)
		}
	}
}

func TestWithoutAWordOnTimesASignatureHoldsForAnHour(t *testing.T) {
	before := time.Now().UnixMilli()
	_, signed, _ := strings.Cut(Pixel{User: "u", DA: "d", ID: "i"}.Sign("k", "s"), "e=")
	event, _, _ := strings.Cut(signed, "&")
	text, err := base64.RawURLEncoding.DecodeString(event)
	if err != nil {
		t.Fatal(err)
	}
	claims := decoded[struct{ Iat, Exp int64 }](t, text)
	if claims.Iat < before || claims.Iat > time.Now().UnixMilli() || claims.Exp-claims.Iat != 3_600_000 {
		t.Error(claims)
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "")
	for _, bad := range []Options{{URL: "127.0.0.1:8080"}, {Key: "a", KeyFile: "b"}, {KeyFile: empty}, {KeyFile: empty + "x"}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
