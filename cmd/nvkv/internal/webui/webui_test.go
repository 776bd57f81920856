package webui

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/kv"
)

const token = "SECRET"

// served returns a store with keys that try to break out of a page, and the URL of its pages.
func served(t *testing.T, writable bool) (*kv.DB, string) {
	t.Helper()
	db, err := kv.Open("", &kv.Options{Device: "mem"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for key, value := range hostile {
		if err := db.Put([]byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(New(db, `<script>document.title="owned"</script>`, token, writable))
	t.Cleanup(server.Close)
	return db, server.URL + "/" + token + "/"
}

const attack = `<script>document.title="owned"</script><img src=x onerror="document.title='owned'"><b>bold</b>`

var hostile = map[string]string{
	attack:                 attack,
	`"><svg onload=x>`:     `javascript:alert(1)`,
	"</pre></td></table>":  "</textarea></pre>" + attack,
	"\xff\x00\x1b[31m":     "\x00\xff\x80binary",
	"":                     "of the empty key",
	`json`:                 `{"a":"` + strings.ReplaceAll(attack, `"`, `\"`) + `"}`,
	"?k=x&as=hex#fragment": "{{.Store}}",
}

// page gets a page and checks the headers that every answer must have.
func page(t *testing.T, address string) (int, string) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q", address, name, got)
		}
	}
	return r.StatusCode, string(text)
}

// TestPagesEscape looks for tags of keys and values in the pages.
func TestPagesEscape(t *testing.T) {
	_, base := served(t, true)
	addresses := []string{base, base + "stats", base + "?prefix=" + url.QueryEscape(attack)}
	for key := range hostile {
		for _, form := range []string{"", "text", "json", "hex"} {
			addresses = append(addresses, base+"key?k="+keyID([]byte(key))+"&as="+form)
		}
	}
	for _, address := range addresses {
		code, text := page(t, address)
		if code != 200 {
			t.Errorf("%s: %d", address, code)
		}
		for _, tag := range []string{"<script", "<img", "<svg", "<b>bold", "\x1b", "\xff"} {
			if strings.Contains(text, tag) {
				t.Errorf("%s holds %q", address, tag)
			}
		}
		if strings.Contains(text, token) {
			t.Errorf("%s holds the token", address)
		}
	}
	_, list := page(t, base)
	for key := range hostile {
		if !strings.Contains(list, keyID([]byte(key))) {
			t.Errorf("the list does not lead to %q", key)
		}
	}
}

// TestGate checks who gets in.
func TestGate(t *testing.T) {
	_, base := served(t, false)
	root := strings.TrimSuffix(base, token+"/")
	for _, path := range []string{"", "key", "SECRE/", "SECRETS/", "secret/stats", "../", "style.css"} {
		if code, _ := page(t, root+path); code != 404 {
			t.Errorf("%q without the token: %d", path, code)
		}
	}
	ask := func(method, host, origin string) int {
		r := httptest.NewRequest(method, "/"+token+"/put", nil)
		r.Host = host
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		db, err := kv.Open("", &kv.Options{Device: "mem"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		New(db, "s", token, true).ServeHTTP(w, r)
		return w.Code
	}
	for host, want := range map[string]int{"evil.example": 403, "evil.example:80": 403, "127.0.0.1.evil.example": 403, "": 403, "127.0.0.1:8080": 303, "[::1]:80": 303, "localhost": 303} {
		if code := ask("POST", host, ""); code != want {
			t.Errorf("host %q: %d, want %d", host, code, want)
		}
	}
	if code := ask("POST", "127.0.0.1:80", "http://evil.example"); code != 403 {
		t.Errorf("a form of another origin: %d", code)
	}
	if code := ask("POST", "127.0.0.1:80", "http://127.0.0.1:80"); code != 303 {
		t.Errorf("a form of its own: %d", code)
	}
	for _, path := range []string{"put", "delete"} {
		r, err := http.PostForm(base+path, url.Values{"key": {"k"}})
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != 404 && r.StatusCode != 405 {
			t.Errorf("%s on read-only pages: %d", path, r.StatusCode)
		}
	}
	for _, path := range []string{"key?k=!", "?from=!", `?prefix=%5Cq`} {
		if code, text := page(t, base+path); code != 400 {
			t.Errorf("%s: %d, %s", path, code, text)
		}
	}
	if code, _ := page(t, base+"key?k="+keyID([]byte("absent"))); code != 404 {
		t.Errorf("an absent key: %d", code)
	}
}

func TestListInPages(t *testing.T) {
	db, base := served(t, false)
	for i := range 250 {
		if err := db.PutUntil(fmt.Appendf(nil, "page\x00%03d", i), make([]byte, 1000), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	address, seen, visited := base+`?prefix=page%5Cx00`, 0, 0
	for ; address != ""; visited++ {
		_, text := page(t, address)
		n := strings.Count(text, `<td class="k">`)
		for i := seen; i < seen+n; i++ {
			if !strings.Contains(text, fmt.Sprintf(`page\x00%03d</a>`, i)) {
				t.Errorf("page %d lacks key %d", visited, i)
			}
		}
		seen += n
		_, next, ok := strings.Cut(text, `class="next" href="`)
		if address = ""; ok {
			next, _, _ = strings.Cut(next, `"`)
			address = base + strings.ReplaceAll(next, "&amp;", "&")
		}
	}
	if seen != 250 || visited != 3 {
		t.Errorf("%d keys in %d pages", seen, visited)
	}
}

func TestPutAndDelete(t *testing.T) {
	db, base := served(t, true)
	post := func(path string, form url.Values) int {
		r, err := http.PostForm(base+path, form)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	if code := post("put", url.Values{"key": {`a\x00"b`}, "value": {"v"}}); code != 200 {
		t.Errorf("put: %d", code)
	}
	if v, err := db.Get([]byte("a\x00\"b")); err != nil || string(v) != "v" {
		t.Errorf("%q, %v", v, err)
	}
	if code := post("delete", url.Values{"k": {keyID([]byte("a\x00\"b"))}}); code != 200 {
		t.Errorf("delete: %d", code)
	}
	if ok, err := db.Has([]byte("a\x00\"b")); ok || err != nil {
		t.Errorf("still there: %v, %v", ok, err)
	}
	if code := post("put", url.Values{"key": {strings.Repeat("k", 70000)}}); code == 200 {
		t.Error("a key that is too long was put")
	}
}

func TestForms(t *testing.T) {
	long := strings.Repeat("ä", shownBytes)
	for _, c := range []struct{ value, ask, used, forms, text string }{
		{`{"a":1}`, "", "json", "json text hex", "{\n  \"a\": 1\n}"},
		{`{"a":1}`, "text", "text", "json text hex", `{"a":1}`},
		{"plain", "json", "text", "text hex", "plain"},
		{"\xff", "text", "hex", "hex", "00000000  ff"},
		{"", "", "text", "text hex", ""},
		{long[:len(long)-1], "", "text", "text hex", "ää"},
	} {
		used, forms, text := formatted([]byte(c.value), c.ask)
		if used != c.used || strings.Join(forms, " ") != c.forms || !strings.HasPrefix(text, c.text) || len(text) > 5*shownBytes {
			t.Errorf("%.20q as %q: %s of %v, %.40q", c.value, c.ask, used, forms, text)
		}
	}
	for _, text := range []string{"", "plain", `with "quotes"`, "a\x00b\xff", `back\slash`, "ä\n\x1b"} {
		if back, err := unquote(quote([]byte(text))); err != nil || string(back) != text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	}
}

func TestStatsAndRaw(t *testing.T) {
	db, base := served(t, false)
	_, text := page(t, base+"stats")
	if !strings.Contains(text, `http-equiv="refresh"`) || !strings.Contains(text, "<td>write_amplification</td>") || !strings.Contains(text, "<caption>account</caption>") {
		t.Errorf("stats:\n%s", text)
	}
	if _, text := page(t, base+"stats?live=no"); strings.Contains(text, "refresh") {
		t.Error("stats that do not stop")
	}
	var m kv.Metrics
	if _, text := page(t, base+"stats.json"); json.Unmarshal([]byte(text), &m) != nil || m.Keys != db.Metrics().Keys {
		t.Errorf("%d keys in %s", m.Keys, text)
	}
	r, err := http.Get(base + "raw?k=" + keyID([]byte(attack)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil || string(raw) != attack || r.Header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%q, %v, %v", raw, err, r.Header)
	}
}

// TestInBrowser opens the pages of hostile keys in a browser. No script may run, no tag of a value may
// become an element, and nothing may be wider than the page. NVKV_SCREENSHOTS names a directory for
// the screenshots.
func TestInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no browser was started")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		effort.NotTested(t, "no chromium: the pages were not opened in a browser")
	}
	_, base := served(t, true)
	dir := t.TempDir()
	pictures := os.Getenv("NVKV_SCREENSHOTS")
	common := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + filepath.Join(dir, "profile")}
	all := map[string]string{"list": base, "value": base + "key?k=" + keyID([]byte("json")), "attack": base + "key?k=" + keyID([]byte(attack)), "stats": base + "stats?live=no"}
	if effort.Now() < effort.Full && pictures == "" { // a browser takes a second or two for each
		delete(all, "value")
		delete(all, "stats")
	}
	for name, address := range all {
		dom, err := exec.CommandContext(t.Context(), chromium, append(common, "--dump-dom", address)...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text := string(dom)
		if strings.Contains(text, "<title>owned") || !strings.Contains(text, "<title>&lt;script&gt;") {
			t.Errorf("%s: a script ran, or the page is not the one", name)
		}
		for _, tag := range []string{"<script", "<img", "<svg", "<b>bold"} {
			if strings.Contains(text, tag) {
				t.Errorf("%s has an element %s", name, tag)
			}
		}
		if pictures != "" {
			out, err := exec.CommandContext(t.Context(), chromium, append(common, "--window-size=1280,900", "--screenshot="+filepath.Join(pictures, "ui-"+name+".png"), address)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
		}
	}
}
