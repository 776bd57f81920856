// Sessions is an example of a service on nvkv: an HTTP server that keeps sessions which expire.
//
//	go run . --store /dev/shm/sessions.nv --listen 127.0.0.1:8080
//
//	POST   /sessions            {"user":"ada","ttl":"30m","data":{...}}: makes one; 201 and its id
//	GET    /sessions/ID         the session; 404 once it has expired
//	POST   /sessions/ID/renew   {"ttl":"30m"}: gives it more time
//	DELETE /sessions/ID         ends it
//	GET    /sessions?user=ada&limit=50&after=ID   a user's sessions, a page at a time
//	GET    /healthz, /metrics
//
// An answer of 201 or 204 means that the change is durable. SIGUSR1 writes a backup beside the store
// while requests go on. SIGTERM and SIGINT let requests under way end and close the store.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"nvkv/kv"
)

func main() {
	path := flag.String("store", "sessions.nv", "the store's `FILE`")
	listen := flag.String("listen", "127.0.0.1:8080", "`ADDRESS` to listen on")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serve(context.Background(), *path, *listen, log, nil); err != nil {
		log.Error("sessions", "error", err)
		os.Exit(1)
	}
}

// serve serves until ctx ends or a signal asks for the end. ready, if not nil, is called with the
// address once it listens.
func serve(ctx context.Context, path, listen string, log *slog.Logger, ready func(net.Addr)) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	db, err := kv.Open(path, &kv.Options{Logger: log, TimeOneIn: 64, LockTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: newHandler(db), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	backups := make(chan os.Signal, 1)
	signal.Notify(backups, syscall.SIGUSR1)
	defer signal.Stop(backups)
	log.Info("serving", "store", path, "address", l.Addr().String())
	if ready != nil {
		ready(l.Addr())
	}
	for {
		select {
		case err := <-ended:
			return err
		case <-backups:
			to := fmt.Sprintf("%s.%s.nvb", path, time.Now().UTC().Format("20060102T150405.000"))
			if n, err := backup(ctx, db, to); err != nil {
				log.Error("backup", "error", err)
			} else {
				log.Info("backup", "file", to, "bytes", n)
			}
		case <-ctx.Done():
			log.Info("ending")
			wait, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			return server.Shutdown(wait)
		}
	}
}

// backup writes a backup of one instant to a file, which is there as a whole or not at all.
func backup(ctx context.Context, db *kv.DB, to string) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	n, err = db.Backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	return n, err
}
