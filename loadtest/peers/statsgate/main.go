// Command statsgate is the door that everybody writes first: it publishes to nsqd, and refuses while the depth that it last read
// from nsqd's /stats is at the bound. It reads often, counts what is in flight and deferred too, and publishes in batches.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
	"github.com/valyala/fasthttp"

	"sluice/loadtest/peers/issue"
)

const (
	topic   = "orders"
	channel = "settle"
)

type gate struct {
	bound    int64
	depth    atomic.Int64
	sale     string
	key      issue.Key
	messages chan message
}

// message is an order on its way, and who waits for it.
type message struct {
	body []byte
	sent chan error
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "nsqd's TCP address")
	stats := flag.String("nsqd-http", "127.0.0.1:4151", "nsqd's HTTP address")
	bound := flag.Int64("bound", 10_000, "depth at which it refuses")
	poll := flag.Duration("poll", 50*time.Millisecond, "time between two looks at the depth")
	sale := flag.String("sale", "rush", "the sale of every order")
	keyFile := flag.String("id-key", "", "file with the key of order ids")
	flag.Parse()
	key, err := issue.Read(*keyFile)
	if err != nil {
		log.Fatal(err)
	}
	producer, err := nsq.NewProducer(*nsqd, nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	g := &gate{bound: *bound, sale: *sale, key: key, messages: make(chan message, 10_000)}
	if err := g.look(*stats); err != nil {
		log.Fatal(err)
	}
	go g.follow(*stats, *poll)
	go g.publish(producer)
	server := &fasthttp.Server{
		Name: "statsgate", Handler: g.handle, NoDefaultContentType: true,
		ReadTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second,
	}
	log.Fatal(server.ListenAndServe(*listen))
}

func (g *gate) handle(ctx *fasthttp.RequestCtx) {
	if g.depth.Load() >= g.bound {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		ctx.SetBodyString(`{"reason":"queue-full"}`)
		return
	}
	var order struct {
		User     string `json:"user"`
		Quantity int    `json:"quantity"`
	}
	if err := json.Unmarshal(ctx.PostBody(), &order); err != nil {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	key := string(ctx.Request.Header.Peek("Idempotency-Key"))
	id := g.key.ID(g.sale, order.User, key)
	body, err := json.Marshal(map[string]any{
		"v": 1, "type": "order", "id": id, "sale": g.sale, "user": order.User, "quantity": order.Quantity,
		"key": key,
	})
	m := message{body, make(chan error, 1)}
	if err == nil {
		g.messages <- m
		err = <-m.sent
	}
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusServiceUnavailable)
		return
	}
	ctx.SetStatusCode(fasthttp.StatusAccepted)
	ctx.SetBodyString(`{"order":"` + id + `","status":"queued"}`)
}

// publish sends whatever waits as one batch.
func (g *gate) publish(producer *nsq.Producer) {
	const most = 1000
	for first := range g.messages {
		batch := []message{first}
		for len(batch) < most && len(g.messages) > 0 {
			batch = append(batch, <-g.messages)
		}
		bodies := make([][]byte, len(batch))
		for i := range batch {
			bodies[i] = batch[i].body
		}
		err := producer.MultiPublish(topic, bodies)
		for _, m := range batch {
			m.sent <- err
		}
	}
}

func (g *gate) follow(stats string, every time.Duration) {
	for range time.Tick(every) {
		if err := g.look(stats); err != nil {
			log.Print(err)
		}
	}
}

// look reads how many orders nsqd has that are not finished.
func (g *gate) look(stats string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+stats+"/stats?format=json&topic="+topic+"&channel="+channel, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	var answer struct {
		Topics []struct {
			Depth    int64 `json:"depth"`
			Channels []struct {
				Depth    int64 `json:"depth"`
				InFlight int64 `json:"in_flight_count"`
				Deferred int64 `json:"deferred_count"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	var depth int64
	for _, t := range answer.Topics {
		depth += t.Depth
		for _, c := range t.Channels {
			depth += c.Depth + c.InFlight + c.Deferred
		}
	}
	g.depth.Store(depth)
	return nil
}
