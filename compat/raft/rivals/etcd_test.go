//go:build etcd

package rivals

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"nvkv/compat/raft/client"
	"nvkv/compat/raft/node"
	"nvkv/compat/raft/server"
)

// The test needs the build tag etcd, so that nobody else compiles that server:
//
//	go test -tags etcd -run TestBesideEtcd -v -dir /dev/shm .
//
// It runs three nodes of each in this process, on loopback, with their usual clients.

const (
	besideKeys   = 10000
	besideRounds = 3
	besideTime   = time.Second // for each measurement
)

// cluster is what is measured. Clients are independent of each other.
type cluster struct {
	name string
	put  func(ctx context.Context, client int, key, value []byte) error
	get  func(ctx context.Context, client int, key []byte) error
}

func TestBesideEtcd(t *testing.T) {
	base := *dir
	if base == "" {
		base = t.TempDir()
	}
	base = filepath.Join(base, fmt.Sprintf("beside-%d", rand.Uint64()))
	mkdir(t, base)
	clusters := []cluster{startNvkv(t, base, 64), startEtcd(t, base, 64)}
	for _, c := range clusters {
		measure(t, c, 16, true, time.Second) // warm
	}
	fmt.Printf("%-7s %-5s %8s %12s %10s %10s\n", "", "", "clients", "calls/s", "p50", "p99")
	for _, writes := range []bool{true, false} {
		for _, n := range []int{1, 8, 64} {
			runs := map[string][]figures{}
			for range besideRounds {
				for _, c := range clusters {
					runs[c.name] = append(runs[c.name], measure(t, c, n, writes, besideTime))
				}
			}
			for _, c := range clusters {
				r := runs[c.name]
				slices.SortFunc(r, func(a, b figures) int { return int(a.rate - b.rate) })
				m := r[len(r)/2]
				fmt.Printf("%-7s %-5s %8d %12.0f %10s %10s   (%.0f to %.0f)\n", c.name, map[bool]string{true: "put", false: "get"}[writes], n, m.rate,
					m.p50.Round(time.Microsecond), m.p99.Round(time.Microsecond), r[0].rate, r[len(r)-1].rate)
			}
		}
	}
}

type figures struct {
	rate     float64
	p50, p99 time.Duration
}

// measure has n clients call for some time.
func measure(t *testing.T, c cluster, n int, writes bool, long time.Duration) figures {
	ctx := t.Context()
	all := make([][]time.Duration, n)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 6))
			value := make([]byte, 256)
			for time.Since(begun) < long {
				key := fmt.Appendf(nil, "key%08d", r.IntN(besideKeys))
				at := time.Now()
				var err error
				if writes {
					err = c.put(ctx, i, key, value)
				} else {
					err = c.get(ctx, i, key)
				}
				if err != nil {
					t.Error(c.name, err)
					return
				}
				all[i] = append(all[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	calls := slices.Concat(all...)
	slices.Sort(calls)
	if len(calls) == 0 {
		t.Fatal(c.name, ": no calls")
	}
	return figures{float64(len(calls)) / took.Seconds(), calls[len(calls)/2], calls[len(calls)*99/100]}
}

func startNvkv(t *testing.T, base string, clients int) cluster {
	var at []string
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n, err := node.Open(node.Config{ID: fmt.Sprint("n", i), Dir: filepath.Join(base, fmt.Sprint("nvkv", i)), Listener: l, Bootstrap: i == 0})
		if err != nil {
			t.Fatal(err)
		}
		s := server.New(n, nil)
		h := &http.Server{Handler: s}
		go h.Serve(n.Clients())
		t.Cleanup(func() { s.Close(); _ = h.Close(); _ = n.Close() })
		at = append(at, l.Addr().String())
		if i > 0 {
			c := client.New(at, client.Options{})
			if err := c.Join(t.Context(), fmt.Sprint("n", i), at[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := make([]*client.Client, clients)
	for i := range c {
		c[i] = client.New(at, client.Options{})
	}
	return cluster{
		"nvkvd",
		func(ctx context.Context, i int, k, v []byte) error { return c[i].Put(ctx, k, v, 0) },
		func(ctx context.Context, i int, k []byte) error {
			if _, err := c[i].Get(ctx, k); err != nil && err != client.ErrNotFound {
				return err
			}
			return nil
		},
	}
}

func free(t *testing.T) url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

func startEtcd(t *testing.T, base string, clients int) cluster {
	var configs []*embed.Config
	var peers, at []string
	for i := range 3 {
		c := embed.NewConfig()
		c.Name, c.Dir, c.LogLevel = fmt.Sprint("e", i), filepath.Join(base, fmt.Sprint("etcd", i)), "error"
		peer, own := free(t), free(t)
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{own}, []url.URL{own}
		peers = append(peers, c.Name+"="+peer.String())
		at = append(at, own.String())
		configs = append(configs, c)
	}
	var wg sync.WaitGroup
	servers := make([]*embed.Etcd, 3)
	for i, c := range configs {
		c.InitialCluster = strings.Join(peers, ",")
		wg.Go(func() {
			e, err := embed.StartEtcd(c)
			if err != nil {
				t.Error(err)
				return
			}
			<-e.Server.ReadyNotify()
			servers[i] = e
		})
	}
	wg.Wait()
	leader := 0
	for i, e := range servers {
		if e == nil {
			t.FailNow()
		}
		t.Cleanup(e.Close)
		if e.Server.Leader() == e.Server.MemberID() {
			leader = i
		}
	}
	c := make([]*clientv3.Client, clients)
	for i := range c {
		var err error
		// To the leader, as the other client does.
		if c[i], err = clientv3.New(clientv3.Config{Endpoints: at[leader : leader+1], DialTimeout: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c[i].Close() })
	}
	return cluster{
		"etcd",
		func(ctx context.Context, i int, k, v []byte) error {
			_, err := c[i].Put(ctx, string(k), string(v))
			return err
		},
		func(ctx context.Context, i int, k []byte) error { _, err := c[i].Get(ctx, string(k)); return err },
	}
}
