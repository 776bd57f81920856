package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	nvkvraft "nvkv/compat/raft"
	"nvkv/compat/raft/client"
	"nvkv/compat/raft/node"
	"nvkv/compat/raft/server"
)

// wallClock is another one in tests.
var wallClock = time.Now

// goodbye is how long requests under way may take when a node ends.
const goodbye = 10 * time.Second

type serveFlags struct {
	security
	c              node.Config
	state          nvkvraft.FSMOptions
	listen, peers  string
	untilEOF, loud bool
}

func serve(ctx context.Context, c *call) error {
	var f serveFlags
	c.flags.StringVar(&f.c.ID, "id", "", "`name` of the node, which stays the same as long as its files do")
	c.flags.StringVar(&f.c.Dir, "dir", "", "`directory` of its files")
	c.flags.StringVar(&f.listen, "listen", "127.0.0.1:7700", "`address` for nodes and clients")
	c.flags.StringVar(&f.c.Advertise, "advertise", "", "`address` that others reach it by; default: that of --listen")
	c.flags.BoolVar(&f.c.Bootstrap, "bootstrap", false, "make a new cluster of this node, where it has no files")
	c.flags.StringVar(&f.peers, "join", "", "join the cluster of these nodes, `address,address`, where it has no files")
	c.flags.DurationVar(&f.c.Heartbeat, "heartbeat", time.Second, "how long to wait for a leader before an election")
	c.flags.Uint64Var(&f.c.TrailingEntries, "trailing-entries", 10240, "entries that stay in the log behind a snapshot")
	c.flags.Uint64Var(&f.c.SnapshotEntries, "snapshot-entries", 8192, "entries between two snapshots")
	c.flags.Int64Var(&f.state.MaxBytes, "max-bytes", 0, "bound on the state's `size`; a node that reaches it fails, and tries again; 0: none")
	c.flags.BoolVar(&f.untilEOF, "until-eof", false, "end when standard input ends")
	c.flags.BoolVar(&f.loud, "verbose", false, "log what raft does")
	f.security.flags(c.flags)
	if err := c.parse(); err != nil {
		return err
	}
	if f.c.ID == "" || f.c.Dir == "" {
		fmt.Fprintln(c.log, "nvkvd serve: --id and --dir must be set")
		return errUsage
	}
	if f.untilEOF {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() { _, _ = io.Copy(io.Discard, c.in); cancel() }()
	}
	level := hclog.Warn
	if f.loud {
		level = hclog.Info
	}
	f.c.State, f.c.Now = &f.state, wallClock
	f.c.Logger = hclog.New(&hclog.LoggerOptions{Name: "nvkvd", Output: c.log, Level: level})
	return f.run(ctx, c)
}

func (f *serveFlags) run(ctx context.Context, c *call) error {
	tokens, err := f.tokens()
	if err != nil {
		return err
	}
	if f.c.ServerTLS, f.c.ClientTLS, err = f.tls(); err != nil {
		return err
	}
	if err := mayListen(f.listen, f.c.ServerTLS != nil, tokens != nil); err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	f.c.Listener = l
	if f.c.Advertise == "" {
		f.c.Advertise = l.Addr().String()
	}
	joins := f.peers != "" && !exists(filepath.Join(f.c.Dir, "raft.nv"))
	cl := f.client(tokens)
	defer cl.Close()
	if joins {
		// A node with this name that is a member had files, which are gone, and with them whom it
		// voted for. It must be no member before it takes part again.
		if err := cl.Remove(ctx, f.c.ID); err != nil {
			return errors.Join(fmt.Errorf("joining %s: %w", f.peers, err), l.Close())
		}
	}
	n, err := node.Open(f.c)
	if err != nil {
		return err
	}
	s := server.New(n, tokens)
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(n.Clients()) }()
	fmt.Fprintf(c.out, "nvkvd: node %s serves on %s\n", f.c.ID, f.c.Advertise)
	if joins {
		err = cl.Join(ctx, f.c.ID, f.c.Advertise)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-ended:
		}
	}
	return errors.Join(err, shutdown(n, s, h))
}

func (f *serveFlags) client(tokens []server.Token) *client.Client {
	return client.New(strings.Split(f.peers, ","), client.Options{TLS: f.c.ClientTLS, Token: adminToken(tokens)})
}

// shutdown hands leadership over, lets the requests under way end, and closes the node.
func shutdown(n *node.Node, s *server.Server, h *http.Server) error {
	if st := n.Status(); st.State == "Leader" && len(st.Members) > 1 {
		_ = n.Transfer("") // where nobody can take it, the others notice by a timeout
	}
	s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = h.Close()
	}
	return errors.Join(err, n.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
