package sluice

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"sync"
)

// OrderID is a UUIDv8 (RFC 9562): 82 bits of a keyed hash of sale, buyer, key and attempt, and a 40-bit keyed
// tag over them. Whoever holds the key derives the same id for a repeat and knows an invented one without a look-up.
type OrderID [16]byte

const hashBytes = 11 // the rest is the tag

// String is the canonical UUID text.
func (id OrderID) String() string { return string(id.AppendTo(make([]byte, 0, 36))) }

// AppendTo appends the canonical UUID text to b and returns it.
func (id OrderID) AppendTo(b []byte) []byte {
	b = hex.AppendEncode(b, id[0:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[4:6])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[6:8])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[8:10])
	b = append(b, '-')
	return hex.AppendEncode(b, id[10:16])
}

// MarshalText writes the canonical UUID text.
func (id OrderID) MarshalText() ([]byte, error) { return id.AppendTo(nil), nil }

// UnmarshalText reads the canonical UUID text and nothing else.
func (id *OrderID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseOrderID(text)
	return err
}

// ParseOrderID reads the canonical lower- or upper-case UUID text. It does not tell whether the id is genuine:
// IDKey.Genuine does.
func ParseOrderID[T string | []byte](text T) (id OrderID, err error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, fmt.Errorf("order id %.40q is not a UUID", text)
	}
	var digits [32]byte
	n := 0
	for i := range 36 {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		digits[n] = text[i]
		n++
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return OrderID{}, fmt.Errorf("order id %.40q is not a UUID", text)
	}
	return id, nil
}

// IDKey makes and recognises order ids. All doors of a shop share one key. Safe for concurrent use.
type IDKey struct {
	tag         cipher.Block
	fingerprint string
	states      sync.Pool // of *idState
}

// idState is one caller's scratch space, so that making an id allocates nothing.
type idState struct {
	mac    hash.Hash
	in     []byte
	out    [sha256.Size]byte
	tagIn  [aes.BlockSize]byte
	tagOut [aes.BlockSize]byte
}

// MinIDKeyBytes is the least entropy an id key may have.
const MinIDKeyBytes = 32

// NewIDKey derives the hash and tag keys from secret, which must be at least MinIDKeyBytes long.
func NewIDKey(secret []byte) (*IDKey, error) {
	if len(secret) < MinIDKeyBytes {
		return nil, fmt.Errorf("the id key has %d bytes; at least %d are needed", len(secret), MinIDKeyBytes)
	}
	derive := func(purpose string) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte("sluice order id: " + purpose))
		return m.Sum(nil)
	}
	tag, err := aes.NewCipher(derive("tag"))
	if err != nil {
		return nil, fmt.Errorf("derive the tag key: %w", err)
	}
	hashKey := derive("hash")
	k := &IDKey{tag: tag, fingerprint: hex.EncodeToString(derive("fingerprint")[:8])}
	k.states.New = func() any { return &idState{mac: hmac.New(sha256.New, hashKey), in: make([]byte, 0, 512)} }
	return k, nil
}

// Fingerprint tells keys apart without telling anything of them: it is a keyed hash of a constant.
func (k *IDKey) Fingerprint() string { return k.fingerprint }

// ID derives the order id of one attempt. Inputs are length-prefixed, so no two different quadruples collide by
// concatenation.
func (k *IDKey) ID(sale, user, key []byte, attempt int) OrderID {
	return deriveID(k, sale, user, key, uint32(attempt))
}

// Issued reports whether o has the id that ID gives its own sale, user, key and attempt, so that a door has promised this order
// to this buyer. Genuine tells less: that some order has the id. Neither vouches for quantity, attributes and times.
func (k *IDKey) Issued(o *Order) bool {
	if o.Attempt < 0 || uint64(o.Attempt) > math.MaxUint32 {
		return false
	}
	id := deriveID(k, o.Sale, o.User, o.Key, uint32(o.Attempt))
	return subtle.ConstantTimeCompare(id[:], o.ID[:]) == 1
}

func deriveID[T string | []byte](k *IDKey, sale, user, key T, attempt uint32) OrderID {
	s := k.states.Get().(*idState)
	defer k.states.Put(s)
	s.in = s.in[:0]
	for _, part := range [...]T{sale, user, key} {
		s.in = binary.BigEndian.AppendUint32(s.in, uint32(len(part)))
		s.in = append(s.in, part...)
	}
	s.in = binary.BigEndian.AppendUint32(s.in, attempt)
	s.mac.Reset()
	s.mac.Write(s.in)
	sum := s.mac.Sum(s.out[:0])

	var id OrderID
	copy(id[:hashBytes], sum)
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // RFC 9562 variant
	copy(id[hashBytes:], k.tagOf(s, id))
	return id
}

// Genuine reports whether id was made with this key. An invented id passes with a chance of 2^-40.
func (k *IDKey) Genuine(id OrderID) bool {
	s := k.states.Get().(*idState)
	defer k.states.Put(s)
	return subtle.ConstantTimeCompare(id[hashBytes:], k.tagOf(s, id)) == 1
}

// tagOf is AES over the hash part, which is shorter than one block: a fixed-length pseudo-random function.
func (k *IDKey) tagOf(s *idState, id OrderID) []byte {
	s.tagIn = [aes.BlockSize]byte{}
	copy(s.tagIn[:], id[:hashBytes])
	k.tag.Encrypt(s.tagOut[:], s.tagIn[:])
	return s.tagOut[:len(id)-hashBytes]
}
