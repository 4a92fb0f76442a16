package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// life is one record: a version byte, the number, the name.
const lifeFixed = 1 + 8

// Life tells this journal from every other one, and this opening of it from those before: it is one more than the last. Both are on the
// disk before Open returns, and one process at a time has a journal: whoever knows of an older life knows that it is over.
func (j *Journal) Life() (name string, number uint64) { return j.name, j.life }

// liveOn reads the last life, and begins the next.
func (j *Journal) liveOn() error {
	record, found, err := j.lastLife()
	if err != nil {
		return fmt.Errorf("read the journal's name: %w", err)
	}
	if !found {
		record = append(make([]byte, lifeFixed), rand.Text()...)
		record[0] = recordVersion
	}
	j.name, j.life = string(record[lifeFixed:]), binary.BigEndian.Uint64(record[1:])+1
	binary.BigEndian.PutUint64(record[1:], j.life)
	if err := j.db.Set([]byte{lifePrefix}, record, pebble.Sync); err != nil {
		return fmt.Errorf("write the journal's name: %w", err)
	}
	return nil
}

func (j *Journal) lastLife() (record []byte, found bool, err error) {
	value, closer, err := j.db.Get([]byte{lifePrefix})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	record = append(record, value...)
	if len(record) <= lifeFixed || record[0] != recordVersion {
		err = errRecord
	}
	return record, true, errors.Join(err, closer.Close())
}
