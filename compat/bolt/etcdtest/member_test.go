package etcdtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

// memberVariable has the test binary be a member of a cluster, which it describes.
const memberVariable = "NVKV_ETCD_MEMBER"

// member is a server, in a process of its own, so that it can be killed.
type member struct {
	Name, Dir, Client, Peer, Cluster string

	command *exec.Cmd
	in      io.Closer     // the process ends when it is closed
	out     *bufio.Reader // of the process
}

func TestMain(m *testing.M) {
	if text := os.Getenv(memberVariable); text != "" {
		if err := serve(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve runs a member until its standard input ends.
func serve(text string) error {
	var m member
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	at := func(address string) []url.URL { return []url.URL{{Scheme: "http", Host: address}} }
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Cluster
	c.ListenClientUrls, c.AdvertiseClientUrls = at(m.Client), at(m.Client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(m.Peer), at(m.Peer)
	c.ElectionMs = 2000 // a busy machine is no reason for an election
	c.SnapshotCount, c.SnapshotCatchUpEntries = 50, 10
	c.LogOutputs = []string{m.log()}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("ready")
	case <-e.Server.StopNotify():
		return errors.New("it stopped before it was ready")
	case <-ended:
		return nil
	}
	select {
	case err := <-e.Err():
		return err
	case <-ended:
		return nil
	}
}

func (m *member) log() string { return m.Dir + ".log" }

// database is the file with what the server keeps.
func (m *member) database() string { return filepath.Join(m.Dir, "member", "snap", "db") }

// start starts the process; ready waits for it.
func (m *member) start(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(m)
	must(t, err)
	m.command = exec.Command(os.Args[0])
	m.command.Env = append(os.Environ(), memberVariable+"="+string(text), "ETCD_VERIFY=all")
	m.command.Stderr = os.Stderr
	m.in, err = m.command.StdinPipe()
	must(t, err)
	out, err := m.command.StdoutPipe()
	must(t, err)
	m.out = bufio.NewReader(out)
	must(t, m.command.Start())
	command := m.command
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(m.log())
			t.Logf("%s says:\n%s", m.Name, log[max(0, len(log)-3000):])
		}
	})
}

func (m *member) ready(t *testing.T) {
	t.Helper()
	line, err := m.out.ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("%s: %q, %v", m.Name, line, err)
	}
}

// kill ends the process as a crash does.
func (m *member) kill() error {
	err := m.command.Process.Kill()
	_ = m.command.Wait()
	return err
}

// stop ends the process in order.
func (m *member) stop(t *testing.T) {
	t.Helper()
	must(t, m.in.Close())
	if err := m.command.Wait(); err != nil {
		t.Errorf("%s: %v", m.Name, err)
	}
}

// newMembers describes the members of a cluster.
func newMembers(t *testing.T, names ...string) []*member {
	t.Helper()
	free := freeAddresses(t, 2*len(names))
	dir := t.TempDir()
	var all []*member
	var cluster []string
	for i, name := range names {
		m := &member{Name: name, Dir: filepath.Join(dir, name), Client: free[2*i], Peer: free[2*i+1]}
		cluster = append(cluster, name+"=http://"+m.Peer)
		all = append(all, m)
	}
	for _, m := range all {
		m.Cluster = strings.Join(cluster, ",")
	}
	return all
}

// freeAddresses finds addresses on the loopback that nobody listens at. Their ports are below
// those that systems give to connections, so that one is still free when a member comes back.
func freeAddresses(t *testing.T, n int) (found []string) {
	t.Helper()
	const first, last = 10_000, 30_000
	from := rand.IntN(last - first)
	for i := range last - first {
		address := fmt.Sprintf("127.0.0.1:%d", first+(from+i)%(last-first))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		must(t, l.Close())
		if found = append(found, address); len(found) == n {
			return found
		}
	}
	t.Fatal("no port is free")
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
