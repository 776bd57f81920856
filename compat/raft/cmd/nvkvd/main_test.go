package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/compat/raft/server"

	"nvkv/compat/raft/client"
	"nvkv/internal/effort"
)

// TestMain has the test's binary be nvkvd where the demo starts it.
func TestMain(m *testing.M) {
	if os.Getenv(demoVariable) != "" {
		wallClock = jumpingClock
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of load")
	}
	dir := effort.Dir(t)
	limit := demoLimit
	demoLimit = effort.Hang
	defer func() { demoLimit = limit }()
	var out, log bytes.Buffer
	if err := run(t.Context(), []string{"demo", "--dir", dir}, nil, &out, &log); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), log.String())
	}
	t.Log("\n" + out.String())
	if !strings.Contains(out.String(), "nothing was lost") {
		t.Error("the demo does not say that nothing was lost")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"fly"}, {"serve"}, {"serve", "--id", "a"}, {"remove"}, {"demo", "more"}, {"status", "--no-flag"}} {
		var out, log bytes.Buffer
		if err := run(t.Context(), args, nil, &out, &log); !errors.Is(err, errUsage) || log.Len() == 0 {
			t.Errorf("%q: %v, %s", args, err, log.String())
		}
	}
}

func TestMayListen(t *testing.T) {
	for _, c := range []struct {
		address        string
		secure, tokens bool
		ok             bool
	}{
		{"127.0.0.1:1", false, false, true}, {"localhost:1", false, false, true}, {"[::1]:1", false, false, true},
		{"0.0.0.0:1", false, false, false}, {":1", false, false, false}, {"10.0.0.1:1", true, false, false},
		{"10.0.0.1:1", false, true, false}, {"10.0.0.1:1", true, true, true}, {"nonsense", true, true, false},
	} {
		if err := mayListen(c.address, c.secure, c.tokens); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
	err := run(t.Context(), []string{"serve", "--id", "a", "--dir", t.TempDir(), "--listen", "0.0.0.0:0"}, nil, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "refusing") || !strings.Contains(err.Error(), "--token-file") {
		t.Fatal(err)
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	for text, want := range map[string]string{
		"# none\n": "no token", "short\n": ":1: the token has less", "\n\nwrite short\n": ":3: the token has less",
		"owner 0123456789abcdef": "read, write or admin", "read write 0123456789abcdef": "read, write or admin",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (&security{tokenFile: path}).tokens(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	text := "read 0123456789abcdefR\n # comment\n  write\t0123456789abcdefW\n0123456789abcdefA\nadmin 0123456789abcdefB\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := (&security{tokenFile: path}).tokens()
	want := []server.Token{{Secret: "0123456789abcdefR", Role: server.Read}, {Secret: "0123456789abcdefW", Role: server.Write}, {Secret: "0123456789abcdefA", Role: server.Admin}, {Secret: "0123456789abcdefB", Role: server.Admin}}
	if err != nil || !slices.Equal(tokens, want) || adminToken(tokens) != "0123456789abcdefA" || adminToken(tokens[:2]) != "" {
		t.Errorf("%v, %v", tokens, err)
	}
}

// writePEM writes a block to a file of a directory and returns its name.
func writePEM(t *testing.T, dir, name, kind string, b []byte) string {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificates makes a CA and a certificate for 127.0.0.1 that it signed, and one that it did not.
func certificates(t *testing.T, dir string) (good, strange security) {
	sign := func(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
			KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		k, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return c, key, writePEM(t, dir, name+".crt", "CERTIFICATE", der), writePEM(t, dir, name+".key", "EC PRIVATE KEY", k)
	}
	ca, caKey, caFile, _ := sign("ca", nil, nil)
	_, _, cert, key := sign("node", ca, caKey)
	other, otherKey, _, _ := sign("ca2", nil, nil)
	_, _, cert2, key2 := sign("node2", other, otherKey)
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("# of the test\n0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return security{cert, key, caFile, tokens}, security{cert2, key2, caFile, tokens}
}

// serving runs serve until the test ends and returns the address.
func serving(t *testing.T, s security, args ...string) (address string, ended chan error) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	args = append([]string{"serve", "--heartbeat", "500ms", "--listen", "127.0.0.1:0", "--cert", s.cert, "--key", s.key, "--ca", s.ca, "--token-file", s.tokenFile}, args...)
	go func() {
		err := run(ctx, args, nil, w, io.Discard)
		_ = w.CloseWithError(io.EOF)
		ended <- err
	}()
	t.Cleanup(func() { cancel(); err := <-ended; ended <- err })
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err, <-ended)
	}
	text := string(line[:n])
	return strings.TrimSpace(text[strings.LastIndex(text, " ")+1:]), ended
}

// TestMutualTLS: two nodes with certificates make a cluster, and one with a certificate of
// another authority takes no part. Clients need a token and the authority's certificate.
func TestMutualTLS(t *testing.T) {
	dir := effort.Dir(t)
	good, strange := certificates(t, dir)
	a, _ := serving(t, good, "--id", "a", "--dir", filepath.Join(dir, "a"), "--bootstrap")
	b, _ := serving(t, good, "--id", "b", "--dir", filepath.Join(dir, "b"), "--join", a)
	ctx, cancel := context.WithTimeout(t.Context(), effort.Hang)
	defer cancel()
	pool, err := good.clientTLS()
	if err != nil {
		t.Fatal(err)
	}
	c := client.New([]string{b, a}, client.Options{Token: "0123456789abcdef", TLS: pool})
	defer c.Close()
	if err := c.Put(ctx, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	for {
		if s, err := c.Status(ctx, b); err == nil && len(s.Members) == 2 && s.Applied > 0 {
			break
		}
		if time.Sleep(10 * time.Millisecond); ctx.Err() != nil {
			t.Fatal("b does not take part")
		}
	}
	if err := client.New([]string{a}, client.Options{Token: "nonsense nonsense", TLS: pool}).Put(ctx, []byte("k"), nil, 0); err == nil {
		t.Error("served with a wrong token")
	}
	// The stranger's raft connection is closed.
	_, strangers, err := strange.tls()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialRaft(a, strangers)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil {
		t.Error("a node with a certificate of another authority gets an answer")
	}
	// Without a certificate neither.
	if conn, err = dialRaft(a, pool); err == nil {
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("a node without a certificate: %v", err)
	}
}
