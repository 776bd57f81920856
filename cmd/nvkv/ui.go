package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"nvkv/cmd/nvkv/internal/webui"
	"nvkv/kv"
)

func newUICmd(g *globals) *cobra.Command {
	var listen string
	var writable bool
	cmd := &cobra.Command{
		Use:   "ui STORE",
		Short: "Show a store in a browser: keys, values, counters",
		Long: `Serves a few pages that show a store: its keys by prefix, a value as text,
JSON or hexadecimal, and the counters of the engine. It prints the URL, and ends
at an interrupt.

Only this machine can reach the pages: the address must be a loopback one. The
URL has a secret in it; whoever has the URL can read the store. Without
--writable the store is opened read-only, beside other readers.`,
		Example: `  nvkv ui store.nv
  nvkv ui store.nv --listen 127.0.0.1:8080
  nvkv ui store.nv --writable`,
		Args: wantArgs("STORE"),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDRESS` to listen on, a loopback one; port 0 takes a free one")
	cmd.Flags().BoolVar(&writable, "writable", false, "let the pages put and delete keys")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkLoopback(listen); err != nil {
			return usageError{err}
		}
		open := g.view
		if writable {
			open = g.update
		}
		return open(args[0], func(db *kv.DB) error {
			token := rand.Text()
			return serveUI(cmd.Context(), listen, webui.New(db, args[0], token, writable), func(address string) error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "http://%s/%s/\n", address, token)
				return err
			})
		})
	}
	return cmd
}

// checkLoopback returns an error unless every address that a host stands for is a loopback one.
func checkLoopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", quoted([]byte(listen)), err)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" {
		return nil
	}
	return fmt.Errorf("--listen %s: not a loopback address, such as 127.0.0.1:8080", quoted([]byte(listen)))
}

// serveUI serves until ctx ends. It calls ready with the address once it listens.
func serveUI(ctx context.Context, listen string, h http.Handler, ready func(address string) error) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	err = ready(l.Addr().String())
	if err == nil {
		select {
		case err = <-ended:
			return err
		case <-ctx.Done():
		}
	}
	wait, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(wait))
}
