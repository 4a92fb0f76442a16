// Command preload puts orders into a queue that nobody drains yet, as doors would have published them: the same that the rivals
// have in memory.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/nsqio/go-nsq"

	"sluice/loadtest/peers/till"
)

const topic = "orders"

func main() {
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "nsqd's TCP address")
	sale := flag.String("sale", "rush", "the sale of every order")
	count := flag.Int("orders", 10_000, "how many")
	flag.Parse()
	if err := preload(*nsqd, *sale, *count); err != nil {
		log.Fatal(err)
	}
}

func preload(nsqd, sale string, count int) error {
	producer, err := nsq.NewProducer(nsqd, nsq.NewConfig())
	if err != nil {
		return err
	}
	defer producer.Stop()
	const most = 1000
	batch := make([][]byte, 0, most)
	for i := range count {
		body, err := message(sale, till.Numbered(sale, i))
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
func message(sale string, o till.Order) ([]byte, error) {
	id := fmt.Sprintf("%x-%x-%x-%x-%x", o.ID[:4], o.ID[4:6], o.ID[6:8], o.ID[8:10], o.ID[10:])
	return json.Marshal(map[string]any{
		"v": 1, "type": "order", "id": id, "sale": sale, "user": o.Buyer, "key": o.Key, "quantity": o.Quantity,
		"accepted_at": o.Accepted.UTC().Format(time.RFC3339Nano),
	})
}
