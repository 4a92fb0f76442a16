// Command preload puts orders into a queue that nobody drains yet, as doors would have published them: the same that the rivals
// have in memory.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"time"

	"github.com/nsqio/go-nsq"

	"sluice/loadtest/peers/issue"
	"sluice/loadtest/peers/till"
)

const topic = "orders"

func main() {
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "nsqd's TCP address")
	sale := flag.String("sale", "rush", "the sale of every order")
	count := flag.Int("orders", 10_000, "how many")
	keyFile := flag.String("id-key", "", "file with the key of order ids")
	flag.Parse()
	key, err := issue.Read(*keyFile)
	if err == nil {
		err = preload(*nsqd, *sale, *count, key)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func preload(nsqd, sale string, count int, key issue.Key) error {
	producer, err := nsq.NewProducer(nsqd, nsq.NewConfig())
	if err != nil {
		return err
	}
	defer producer.Stop()
	const most = 1000
	batch := make([][]byte, 0, most)
	for i := range count {
		body, err := message(sale, till.Numbered(sale, i), key)
		if err != nil {
			return err
		}
		if batch = append(batch, body); len(batch) < most && i+1 < count {
			continue
		}
		if err := producer.MultiPublish(topic, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return nil
}

// message is the envelope of an order; its fields are a published contract.
func message(sale string, o till.Order, key issue.Key) ([]byte, error) {
	return json.Marshal(map[string]any{
		"v": 1, "type": "order", "id": key.ID(sale, o.Buyer, o.Key), "sale": sale, "user": o.Buyer, "key": o.Key, "quantity": o.Quantity,
		"accepted_at": o.Accepted.UTC().Format(time.RFC3339Nano),
	})
}
