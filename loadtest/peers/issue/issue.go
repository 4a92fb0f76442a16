// Package issue gives orders the ids that a door gives them: a worker settles no other.
package issue

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
)

// Key is the shop's key of order ids. Safe for concurrent use.
type Key struct {
	hash []byte
	tag  cipher.Block
}

// Read reads the key from the file that doors and workers have it from.
func Read(file string) (Key, error) {
	secret, err := os.ReadFile(file)
	if err != nil {
		return Key{}, err
	}
	secret = bytes.TrimSpace(secret)
	tag, err := aes.NewCipher(keyed(secret, []byte("sluice order id: tag")))
	return Key{keyed(secret, []byte("sluice order id: hash")), tag}, err
}

// ID is the id of an order's first attempt.
func (k Key) ID(sale, buyer, key string) string {
	const hashBytes = 11
	var in []byte
	for _, part := range [...]string{sale, buyer, key} {
		in = append(binary.BigEndian.AppendUint32(in, uint32(len(part))), part...)
	}
	in = binary.BigEndian.AppendUint32(in, 0)
	var id, tag [16]byte
	copy(id[:hashBytes], keyed(k.hash, in))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	k.tag.Encrypt(tag[:], id[:])
	copy(id[hashBytes:], tag[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func keyed(key, in []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(in)
	return m.Sum(nil)
}
