// Package examples plays a small flash sale with services that listen to it, and checks that each got everything, once:
// while one of them is killed, and another one away. It believes only what HTTP says.
package examples

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	sale   = "spring"
	stock  = 150
	buyers = 240
)

// cast is who plays: the addresses are URLs.
type cast struct {
	*stage
	nsqd, nsqdHTTP, door, admin string
	points, coupons, report     string
	notifications               [2]string
	sluice, pointsProcess       *process
}

// Run plays the story with the programs in a folder, and prints what each service got. An error says what does not add up,
// and what the processes said is printed then.
func Run(ctx context.Context, programs string, out io.Writer) (err error) {
	stage, err := newStage(programs)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	defer func() {
		if err != nil {
			stage.logs(out)
		}
		err = errors.Join(err, stage.close())
	}()
	c := &cast{stage: stage}
	if err := c.enter(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d buyers come for %d units; each order that is held is paid, or cancelled by every eighth buyer\n", buyers, stock)
	crowd, err := c.play(ctx)
	if err != nil {
		return err
	}
	return c.settle(ctx, crowd, out)
}

// enter starts everything but coupons, which is away for now, and opens the sale.
func (c *cast) enter(ctx context.Context) error {
	for _, address := range []*string{&c.nsqd, &c.door, &c.admin, &c.points, &c.coupons, &c.report, &c.notifications[0], &c.notifications[1]} {
		free, err := freeAddress(ctx)
		if err != nil {
			return err
		}
		*address = "http://" + free
	}
	_, port, _ := strings.Cut(bare(c.nsqd), ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	c.nsqdHTTP = fmt.Sprintf("http://127.0.0.1:%d", n+1) // as NSQ has it
	c.sluice, err = c.start("sluice", "sluice", "up", "--listen", bare(c.door), "--admin", bare(c.admin), "--nsqd", bare(c.nsqd),
		"--data", "sluice", "--events-channels", "points,coupons,notifications")
	if err != nil {
		return err
	}
	if c.pointsProcess, err = c.start("points", "points", "--nsqd", bare(c.nsqd), "--listen", bare(c.points)); err != nil {
		return err
	}
	if _, err = c.start("report", "report", "--nsqd", bare(c.nsqd), "--listen", bare(c.report)); err != nil {
		return err
	}
	for i, url := range c.notifications {
		name := fmt.Sprintf("notifications-%d", i+1)
		if _, err := c.start(name, "notifications", "--name", name, "--nsqd", bare(c.nsqd), "--listen", bare(url)); err != nil {
			return err
		}
	}
	return c.open(ctx)
}

// bare is a URL's host and port.
func bare(url string) string { return strings.TrimPrefix(url, "http://") }

// open waits for everybody and opens the sale.
func (c *cast) open(ctx context.Context) error {
	for _, url := range []string{c.door + "/readyz", c.points + "/v1/points", c.report + "/v1/reports", c.notifications[0] + "/v1/notes", c.notifications[1] + "/v1/notes"} {
		if err := eventually(ctx, 30*time.Second, url, func(ctx context.Context) error { return get(ctx, url, nil) }); err != nil {
			return err
		}
	}
	_, err := post(ctx, c.admin+"/v1/sales", map[string]any{"id": sale, "sku": "tulips", "stock": stock, "payment_window": "15m"}, nil)
	if err != nil {
		return err
	}
	return eventually(ctx, 10*time.Second, "the door knows the sale", func(ctx context.Context) error {
		return get(ctx, c.door+"/v1/sales/"+sale, nil)
	})
}

// play lets the crowd come; points is killed in the middle and away for a while, and coupons comes when all is over.
func (c *cast) play(ctx context.Context) (*crowd, error) {
	crowd := &crowd{door: c.door, admin: c.admin, report: c.report, sale: sale, outcomes: map[string]string{}}
	over := make(chan struct{})
	go func() { // waited for below
		defer close(over)
		crowd.come(ctx, 0, buyers)
	}()
	at := func(n int64) error {
		return eventually(ctx, time.Minute, fmt.Sprintf("%d buyers came", n), func(context.Context) error {
			if crowd.asked.Load() < n {
				return errors.New("not yet")
			}
			return nil
		})
	}
	err := at(buyers / 4)
	err = errors.Join(err, c.pointsProcess.kill(), at(buyers/2), c.pointsProcess.start())
	<-over
	_, late := c.start("coupons", "coupons", "--nsqd", bare(c.nsqd), "--listen", bare(c.coupons))
	return crowd, errors.Join(err, late, crowd.err)
}

// settle waits until everybody has everything, and prints it. Then sluice is killed and started again. Its nsqd has forgotten
// what it held then, so every event is sent a second time: nobody may take it for news.
func (c *cast) settle(ctx context.Context, crowd *crowd, out io.Writer) error {
	began := time.Now()
	books := &Books{Buyers: buyers, Outcomes: crowd.outcomes}
	err := eventually(ctx, time.Minute, "every service has everything", func(ctx context.Context) error {
		return c.addUp(ctx, books)
	})
	books.print(out, crowd.turnedAway)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "all of it %v after the last buyer\n", time.Since(began).Round(time.Millisecond))

	again, err := c.repeat(ctx)
	if err == nil {
		err = c.addUp(ctx, books)
	}
	if err != nil {
		return fmt.Errorf("after all events came again: %w", err)
	}
	fmt.Fprintf(out, "sluice was killed and started: all %d events came again to each of them, and changed nothing\n", again)
	return nil
}

// addUp reads the books and says what is wrong with them.
func (c *cast) addUp(ctx context.Context, books *Books) error {
	if err := books.read(ctx, c); err != nil {
		return err
	}
	if wrong := books.Check(); len(wrong) > 0 {
		return fmt.Errorf("%d things do not add up: %s", len(wrong), strings.Join(wrong[:min(len(wrong), 10)], "; "))
	}
	return nil
}

// repeat kills sluice and waits until every channel's messages have been handled again. It answers how many events there are.
func (c *cast) repeat(ctx context.Context) (events int, err error) {
	var kept struct{ Newest int }
	if err := get(ctx, c.admin+"/v1/events?limit=1", &kept); err != nil {
		return 0, err
	}
	if err := errors.Join(c.sluice.kill(), c.sluice.start()); err != nil {
		return 0, err
	}
	return kept.Newest, eventually(ctx, 30*time.Second, "all events come again", func(ctx context.Context) error {
		return c.handled(ctx, kept.Newest)
	})
}

// handled asks nsqd if it has had so many events since it started, and each service has taken them all.
func (c *cast) handled(ctx context.Context, events int) error {
	var stats struct {
		Topics []struct {
			Name     string `json:"topic_name"`
			Channels []struct {
				Name     string `json:"channel_name"`
				Had      int    `json:"message_count"`
				Depth    int    `json:"depth"`
				InFlight int    `json:"in_flight_count"`
			}
		}
	}
	if err := get(ctx, c.nsqdHTTP+"/stats?format=json&topic=events", &stats); err != nil {
		return err
	}
	done := 0
	for _, topic := range stats.Topics {
		for _, channel := range topic.Channels {
			if topic.Name == "events" && channel.Had >= events && channel.Depth+channel.InFlight == 0 {
				done++
			}
		}
	}
	if done != 3 {
		return fmt.Errorf("%d of 3 channels have had %d events: %+v", done, events, stats)
	}
	return nil
}
