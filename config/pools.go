package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice"
)

// DefaultPool is the name of the pool that drain-rate and its like make.
const DefaultPool = "settle"

// Pool is one of a worker's pools.
type Pool struct {
	Name    string
	Topic   string // empty: that of the doors
	Channel string // empty: that of the doors
	Rate    int
	Workers int
	Batch   int
	Flush   time.Duration
	Window  int
}

// DefaultPool is the pool that drain-rate and its like make.
func (c *Config) DefaultPool() Pool {
	return Pool{Name: DefaultPool, Rate: c.DrainRate, Workers: c.DrainWorkers, Batch: c.Batch, Flush: c.Flush, Window: c.Window}
}

// Each of these is a setting, and a field of a pool.
var (
	setDrainRate    = number(0, 1_000_000, func(c *Config) *int { return &c.DrainRate })
	setDrainWorkers = number(1, 64, func(c *Config) *int { return &c.DrainWorkers })
	setBatch        = number(1, 1000, func(c *Config) *int { return &c.Batch })
	setFlush        = duration(0, time.Second, func(c *Config) *time.Duration { return &c.Flush })
	setWindow       = number(0, sluice.MaxWindow, func(c *Config) *int { return &c.Window })
)

const wantPool = "want a name, and then topic=, channel=, rate=, workers=, batch=, flush= or window="

// setPools reads pools such as "vip topic=orders-vip rate=500, bulk topic=orders-bulk". What a pool leaves out is as in
// the one that drain-rate and its like make, but for the rate and the window.
func setPools(c *Config, text string) error {
	c.Pools = nil
	if strings.TrimSpace(text) == "" {
		return nil
	}
	names := map[string]bool{DefaultPool: true}
	for entry := range strings.SplitSeq(text, ",") {
		p, err := readPool(c, entry)
		if err != nil {
			return err
		}
		if names[p.Name] {
			return fmt.Errorf("there is a pool %s already; want a name of its own for each", p.Name)
		}
		names[p.Name] = true
		c.Pools = append(c.Pools, p)
	}
	if len(names) > sluice.MaxPools {
		return fmt.Errorf("%d pools; want at most %d", len(names), sluice.MaxPools)
	}
	return nil
}

func readPool(c *Config, text string) (Pool, error) {
	p := c.DefaultPool()
	p.Name, p.Rate, p.Window = "", 0, 0
	seen := map[string]bool{}
	for i, field := range strings.Fields(text) {
		key, value, ok := strings.Cut(field, "=")
		if !ok && i == 0 {
			key, value = "name", field
		} else if !ok {
			return p, fmt.Errorf("pool %q: %q: %s", p.Name, field, wantPool)
		}
		if seen[key] {
			return p, fmt.Errorf("pool %q: %s is given twice", p.Name, key)
		}
		seen[key] = true
		if err := setPoolField(&p, key, value); err != nil {
			return p, fmt.Errorf("pool %q: %w", p.Name, err)
		}
	}
	if !sluice.ValidPoolName(p.Name) {
		return p, fmt.Errorf("pool %q: want a name of 1 to %d of a-z, 0-9, dot, dash and underscore", p.Name, sluice.MaxPoolName)
	}
	return p, nil
}

func setPoolField(p *Pool, key, value string) error {
	var c Config
	var err error
	switch key {
	case "name":
		p.Name = value
	case "topic":
		p.Topic, err = value, notEmpty(value)
	case "channel":
		p.Channel, err = value, notEmpty(value)
	case "rate":
		err = setDrainRate(&c, value)
		p.Rate = c.DrainRate
	case "workers":
		err = setDrainWorkers(&c, value)
		p.Workers = c.DrainWorkers
	case "batch":
		err = setBatch(&c, value)
		p.Batch = c.Batch
	case "flush":
		err = setFlush(&c, value)
		p.Flush = c.Flush
	case "window":
		err = setWindow(&c, value)
		p.Window = c.Window
	default:
		return fmt.Errorf("%q is no field of a pool: %s", key, wantPool)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", key, value, err)
	}
	return nil
}

func notEmpty(value string) error {
	if value == "" {
		return errors.New("it must not be empty")
	}
	return nil
}
