package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"nvkv/compat/raft/server"
)

// security holds the flags that say who may connect.
type security struct {
	cert, key, ca, tokenFile string
}

func (s *security) flags(f *flag.FlagSet) {
	f.StringVar(&s.cert, "cert", "", "`file` with this node's certificate, for servers and clients (PEM)")
	f.StringVar(&s.key, "key", "", "`file` with its key (PEM)")
	f.StringVar(&s.ca, "ca", "", "`file` with the certificates that sign those of nodes (PEM)")
	f.StringVar(&s.tokenFile, "token-file", "", "`file` with the tokens of clients, a line each: read, write or admin, and the token; without a role: admin. A client sends the first")
}

// tokens reads the tokens.
func (s *security) tokens() (tokens []server.Token, err error) {
	if s.tokenFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(s.tokenFile)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		t := server.Token{Secret: words[len(words)-1], Role: server.Admin}
		known := len(words) == 1
		if len(words) == 2 {
			t.Role, known = server.ParseRole(words[0])
		}
		switch {
		case !known:
			return nil, fmt.Errorf("%s:%d: want read, write or admin, and a token", s.tokenFile, number)
		case len(t.Secret) < 16:
			return nil, fmt.Errorf("%s:%d: the token has less than 16 characters", s.tokenFile, number)
		}
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s: no token", s.tokenFile)
	}
	return tokens, nil
}

// adminToken returns the first token of a node that has that role, which others ask to let it join.
func adminToken(tokens []server.Token) string {
	for _, t := range tokens {
		if t.Role == server.Admin {
			return t.Secret
		}
	}
	return ""
}

// tls returns the configurations for connections that are accepted and made, nil without flags.
func (s *security) tls() (server, client *tls.Config, err error) {
	set := 0
	for _, f := range []string{s.cert, s.key, s.ca} {
		if f != "" {
			set++
		}
	}
	switch set {
	case 0:
		return nil, nil, nil
	case 1, 2:
		return nil, nil, errors.New("--cert, --key and --ca go together")
	}
	cert, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return nil, nil, err
	}
	pool, err := s.pool()
	if err != nil {
		return nil, nil, err
	}
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	client = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool}
	return server, client, nil
}

func (s *security) pool() (*x509.CertPool, error) {
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", s.ca)
	}
	return pool, nil
}

// clientTLS is for commands that only call: they need no certificate of their own.
func (s *security) clientTLS() (*tls.Config, error) {
	if s.ca == "" {
		return nil, nil
	}
	pool, err := s.pool()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}, nil
}

// mayListen refuses an address that others than this machine reach, unless nodes show
// certificates and clients tokens.
func mayListen(address string, secure, tokens bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	var missing []string
	if !secure {
		missing = append(missing, "--cert, --key and --ca, so that only nodes can take part")
	}
	if !tokens {
		missing = append(missing, "--token-file, so that only clients with a token are served")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("refusing to listen on %s, which other machines may reach: set %s", address, strings.Join(missing, "; and "))
}
