package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// receiver is a shop's service that events are posted to. It believes nothing that is not signed, as the documents say how.
type receiver struct {
	address  string
	secret   []byte
	audience *audience

	running sync.WaitGroup
	server  *http.Server // the story's goroutine owns it

	mu     sync.Mutex // guards what follows
	forged []string   // what was not signed as it should be
}

// receive makes the scene's receiver, which is there from now on.
func (s *scene) receive(ctx context.Context) error {
	address, err := s.lab.FreeAddress()
	if err != nil {
		return err
	}
	s.heard = map[string]*audience{}
	s.hooks = &receiver{address: address, secret: make([]byte, 32), audience: newAudience()}
	if _, err := rand.Read(s.hooks.secret); err != nil {
		return err
	}
	s.ends = append(s.ends, s.hooks.leave)
	return s.hooks.come(ctx)
}

func (r *receiver) come(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.address)
	if err != nil {
		return err
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	server := r.server
	r.running.Go(func() { _ = server.Serve(listener) }) // until leave
	return nil
}

// leave refuses connections, and breaks those that there are.
func (r *receiver) leave() {
	_ = r.server.Close()
	r.running.Wait()
}

func (r *receiver) count() int { return r.audience.count() }

// tried says whether somebody who calls there is refused: nil.
func (r *receiver) tried(address string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", address)
	if err != nil {
		return nil
	}
	return errors.Join(errors.New("somebody is there"), conn.Close())
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err == nil {
		err = verify(r.secret, req.Header, body)
	}
	var event struct{ Data json.RawMessage }
	if err == nil {
		err = json.Unmarshal(body, &event)
	}
	if err != nil {
		r.mu.Lock()
		r.forged = append(r.forged[:min(len(r.forged), 9)], err.Error())
		r.mu.Unlock()
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = r.audience.hear(event.Data)
	w.WriteHeader(http.StatusNoContent)
}

// verify checks a signature of Standard Webhooks by hand.
func verify(secret []byte, header http.Header, body []byte) error {
	id, stamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("it is of %q", stamp)
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := mac.Sum(nil)
	for signature := range strings.FieldsSeq(header.Get("webhook-signature")) {
		text, ok := strings.CutPrefix(signature, "v1,")
		got, err := base64.StdEncoding.DecodeString(text)
		if ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return fmt.Errorf("%s is signed by somebody else", id)
}

// inOrder: of each order, what came first is older than what came first after it.
func (r *receiver) inOrder() (err error) {
	r.mu.Lock()
	if len(r.forged) > 0 {
		err = fmt.Errorf("events: posted without a good signature: %v", r.forged)
	}
	r.mu.Unlock()
	a := r.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	newest := map[string]int64{}
	for _, seq := range a.order {
		id := a.heard[seq].Order
		if id != "" && newest[id] > seq {
			return errors.Join(err, fmt.Errorf("events: the receiver heard event %d of order %s before event %d", newest[id], id, seq))
		}
		newest[id] = seq
	}
	return err
}
