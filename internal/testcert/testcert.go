// Package testcert makes certificates for tests: authorities of their own, and good and bad certificates of theirs.
// Nothing of it is trusted by anybody who was not told to, and nothing outlives its test.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

var serial atomic.Int64

// CA is an authority.
type CA struct {
	File string // its certificate in PEM
	PEM  []byte
	Pool *x509.CertPool

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority.
func New(t testing.TB) *CA {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	ca := &CA{key: newKey(t), Pool: x509.NewCertPool()}
	der := sign(t, template, template, ca.key, ca.key)
	var err error
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	ca.File = write(t, t.TempDir(), "ca.pem", ca.PEM)
	ca.Pool.AddCert(ca.cert)
	return ca
}

// Leaf is a certificate with its key, as files too.
type Leaf struct {
	CertFile, KeyFile string
	Cert, Key         []byte // PEM
	TLS               tls.Certificate
}

// Issue makes a certificate that is good for both ends of a connection, with the names and addresses given; none:
// 127.0.0.1 and localhost.
func (ca *CA) Issue(t testing.TB, names ...string) Leaf {
	t.Helper()
	return ca.issue(t, time.Now().Add(time.Hour), names)
}

// IssueExpired makes one that was good until a minute ago.
func (ca *CA) IssueExpired(t testing.TB, names ...string) Leaf {
	t.Helper()
	return ca.issue(t, time.Now().Add(-time.Minute), names)
}

func (ca *CA) issue(t testing.TB, until time.Time, names []string) Leaf {
	t.Helper()
	if len(names) == 0 {
		names = []string{"127.0.0.1", "localhost"}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: names[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newKey(t)
	der := sign(t, template, ca.cert, key, ca.key)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := Leaf{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}
	l.CertFile, l.KeyFile = write(t, dir, "cert.pem", l.Cert), write(t, dir, "key.pem", l.Key)
	if l.TLS, err = tls.X509KeyPair(l.Cert, l.Key); err != nil {
		t.Fatal(err)
	}
	return l
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
