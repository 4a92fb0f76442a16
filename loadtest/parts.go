package loadtest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sluice"
	"sluice/api"
	"sluice/loadtest/lab"
)

// Service is what a load test is aimed at: parts of its own, or somebody's.
type Service struct {
	Doors     []string       // URLs of the front doors
	Metrics   []string       // URLs of the doors' /metrics; of a foreign service perhaps none
	Admin     string         // URL of the operations API; its /metrics are the worker's
	Token     string         // for it and for the doors' metrics; may be empty
	Secure    *tls.Config    // for both, where they are https://; nil: the system's authorities
	Processes []*lab.Process // parts of its own; nil: a foreign one

	lab   *lab.Lab
	dir   string // of its own data
	store Store  // of its own
}

// operations is a client of the operations API. Close it.
func (s *Service) operations() *api.Client { return api.NewSecureClient(s.Admin, s.Token, s.Secure) }

// Kinds of stores.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Store is the database of a service's own parts.
type Store struct {
	Kind     string                                                               // SQLite or Postgres
	Database func(ctx context.Context) (url string, drop func() error, err error) // makes a fresh one, of PostgreSQL
	Server   *lab.Tree                                                            // that has it; nil: not known, and not measured

	url      string
	settings string // file that tells it to the worker
	file     string // of SQLite
	drop     func() error
}

// StartParts starts an nsqd, a worker and a front door with the settings of a scenario, a fresh database and no other data, and waits
// until they are ready. program is sluice. Whoever started them calls Stop.
func StartParts(ctx context.Context, l *lab.Lab, program string, store Store, parts Parts) (*Service, error) {
	s := &Service{lab: l, store: store}
	if err := s.startAll(ctx, program, parts); err != nil {
		return nil, errors.Join(err, l.End(), s.forget())
	}
	return s, nil
}

func (s *Service) startAll(ctx context.Context, program string, parts Parts) (err error) {
	if s.dir, err = s.lab.Data(); err != nil {
		return err
	}
	if err := s.freshStore(ctx); err != nil {
		return err
	}
	addresses := make([]string, 4)
	for i := range addresses {
		if addresses[i], err = s.lab.FreeAddress(); err != nil {
			return err
		}
	}
	queue, admin, door, metrics := addresses[0], addresses[1], addresses[2], addresses[3]
	s.Doors, s.Metrics, s.Admin = []string{"http://" + door}, []string{"http://" + metrics + "/metrics"}, "http://"+admin
	key, err := idKey(s.dir)
	if err != nil {
		return err
	}
	bound, wait := flag("bound", parts.Bound), flag("max-wait", parts.MaxWait)
	for _, p := range []struct {
		name, verb string
		settings   []string
		args       []string
	}{
		{"nsqd", "nsqd", bound, []string{"--listen", queue, "--data", filepath.Join(s.dir, "nsqd")}},
		{"worker", "worker", flag("drain-rate", parts.DrainRate), []string{
			"--nsqd", queue, "--admin", admin, "--id-key", key, "--config", s.store.settings, "--data", s.dir,
		}},
		{"door", "ingress", slices.Concat(bound, wait), []string{
			"--nsqd", queue, "--worker", admin, "--id-key", key, "--id", "door", "--listen", door, "--metrics", metrics,
			"--data", filepath.Join(s.dir, "door"), "--address-connections", manyAtOnce, "--buyer-rate", manyAtOnce,
		}},
	} {
		process, err := s.lab.Start(p.name, program, slices.Concat([]string{p.verb}, p.args, p.settings)...)
		if err != nil {
			return err
		}
		s.Processes = append(s.Processes, process)
	}
	return s.waitReady(ctx)
}

// manyAtOnce is a limit that nobody reaches: the whole crowd has one address, and a few buyers may have to stand for many. The
// door keeps count all the same, as it does in earnest.
const manyAtOnce = "1000000"

func idKey(dir string) (path string, err error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	path = filepath.Join(dir, "id.key")
	return path, os.WriteFile(path, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600)
}

// freshStore makes a database that nobody else has. The worker reads its URL from a file: what stands in a command line can be read
// by everybody on the machine, and the URL may have a password.
func (s *Service) freshStore(ctx context.Context) (err error) {
	url := SQLite
	if s.store.Kind == SQLite {
		s.store.file = filepath.Join(s.dir, "inventory.db")
	} else if url, s.store.drop, err = s.store.Database(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"store": url}) // which is YAML too
	if err != nil {
		return err
	}
	s.store.url, s.store.settings = url, filepath.Join(s.dir, "worker.yaml")
	return os.WriteFile(s.store.settings, text, 0o600)
}

// forget removes the database and all data.
func (s *Service) forget() error {
	var err error
	if s.store.drop != nil {
		err = s.store.drop()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// errEnded says that a part will never be ready; the lab tells which, and what it said.
var errEnded = errors.New("the parts did not start")

// waitReady waits until the parts are ready, or one of them has ended.
func (s *Service) waitReady(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	for _, url := range append([]string{s.Admin}, s.Doors...) {
		err := lab.Eventually(ctx, 30*time.Second, url+" is ready", func() error {
			if slices.ContainsFunc(s.Processes, (*lab.Process).Ended) {
				giveUp(errEnded)
			}
			return get(ctx, url+"/readyz")
		})
		switch {
		case errors.Is(err, errEnded):
			return err
		case err != nil:
			return fmt.Errorf("%w; the parts said:\n%s", err, s.said())
		}
	}
	return nil
}

// said is the end of what each part said.
func (s *Service) said() (text string) {
	for _, p := range s.Processes {
		text += p.Name() + ": " + p.Said(5) + "\n"
	}
	return text
}

// Stop ends parts of its own in order, and removes their database and all data.
func (s *Service) Stop(ctx context.Context) error {
	err := s.lab.Stop(ctx)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, s.said())
	}
	return errors.Join(err, s.forget())
}

// flag is a setting of the parts; what is 0 is left as the service has it.
func flag[T comparable](name string, value T) []string {
	if value == *new(T) {
		return nil
	}
	if d, is := any(value).(sluice.Duration); is {
		return []string{"--" + name, time.Duration(d).String()}
	}
	if rate, is := any(value).(float64); is {
		return []string{"--" + name, strconv.FormatFloat(rate, 'f', -1, 64)} // never 1e+06
	}
	return []string{"--" + name, fmt.Sprint(value)}
}
