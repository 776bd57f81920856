package webui

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatted returns a value in a form: the one that is asked for if the value has it, else the most
// readable. Every value has hex.
func formatted(value []byte, form string) (used string, forms []string, text string) {
	isCut := len(value) > shownBytes
	shown := value[:min(len(value), shownBytes)]
	if isCut { // do not cut a character in two
		for n := 0; n < utf8.UTFMax && !utf8.Valid(shown) && len(shown) > 0; n++ {
			shown = shown[:len(shown)-1]
		}
	}
	texts := map[string]string{"hex": hex.Dump(value[:min(len(value), shownBytes)])}
	if utf8.Valid(shown) {
		texts["text"] = string(shown)
	}
	var indented bytes.Buffer
	if !isCut && json.Indent(&indented, value, "", "  ") == nil {
		texts["json"] = indented.String()
	}
	for _, f := range []string{"json", "text", "hex"} {
		if _, ok := texts[f]; ok {
			forms = append(forms, f)
		}
	}
	if _, ok := texts[form]; !ok {
		form = forms[0]
	}
	return form, forms, texts[form]
}

// quote returns bytes as printable text: like a Go string, without the quotes around it.
func quote(p []byte) string {
	q := strconv.Quote(string(p))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// unquote is the inverse of quote. Text without a backslash stands for itself.
func unquote(text string) ([]byte, error) {
	if !strings.Contains(text, `\`) {
		return []byte(text), nil
	}
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		return nil, fmt.Errorf("%q is not text with escapes such as \\x00", text)
	}
	return []byte(s), nil
}

// formBytesMax bounds a form: a value of a few MiB can be typed or pasted, larger ones are for the
// command line.
const formBytesMax = 8 << 20

// put stores a value from a form.
func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	if err := r.ParseForm(); err != nil {
		fail(w, fmt.Errorf("%w: %w", errBad, err))
		return
	}
	key, err := unquote(r.PostFormValue("key"))
	if err == nil {
		err = s.db.Put(key, []byte(r.PostFormValue("value")))
	}
	if err != nil {
		fail(w, err)
		return
	}
	seeOther(w, "key?k="+keyID(key))
}

// seeOther sends the browser to a URL relative to that of the form, which holds the token.
func seeOther(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// delete deletes a key.
func (s *Server) delete(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	key, err := keyOf(r.PostFormValue("k"))
	if err == nil {
		err = s.db.Delete(key)
	}
	if err != nil {
		fail(w, err)
		return
	}
	seeOther(w, "./")
}

// statsPage shows the counters.
type statsPage struct {
	base
	Groups []statGroup
}

type statGroup struct {
	Name  string
	Stats []stat
}

type stat struct{ Name, Value string }

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	p := statsPage{base: s.base()}
	p.Live = r.FormValue("live") != "no"
	m := s.db.Metrics()
	p.Groups = statGroups("", reflect.ValueOf(m))
	render(w, "stats", p)
}

// statGroups returns the fields of a struct under their JSON names, nested structs as groups of
// their own.
func statGroups(name string, v reflect.Value) []statGroup {
	g := statGroup{Name: name}
	var nested []statGroup
	for i := range v.NumField() {
		field := v.Type().Field(i)
		label, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			nested = append(nested, statGroups(label, f)...)
		} else if label != "" && label != "-" && field.IsExported() {
			g.Stats = append(g.Stats, stat{label, statText(f)})
		}
	}
	return append([]statGroup{g}, nested...)
}

func statText(v reflect.Value) string {
	switch {
	case v.CanInt():
		return grouped(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		return grouped(strconv.FormatUint(v.Uint(), 10))
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'g', 3, 64)
	}
	return fmt.Sprint(v.Interface())
}

// grouped puts a comma before each three digits.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
