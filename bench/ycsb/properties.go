package ycsb

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// Properties are YCSB settings by name, as in property files and -p flags.
type Properties map[string]string

// ReadProperties parses a Java property file. It has one "name=value" (or "name: value") per line.
// '#' or '!' begins a comment line, and a backslash at the end continues the line. source is for
// error texts.
func ReadProperties(r io.Reader, source string) (Properties, error) {
	p := Properties{}
	lines := bufio.NewScanner(r)
	pending := ""
	for n := 1; lines.Scan(); n++ {
		line := pending + strings.TrimSpace(lines.Text())
		pending = ""
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if before, continued := strings.CutSuffix(line, `\`); continued {
			pending = before
			continue
		}
		if err := p.Set(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", source, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if pending != "" {
		return nil, fmt.Errorf("%s: the last line is continued, but nothing follows", source)
	}
	return p, nil
}

// ReadPropertyFile parses the property file at path.
func ReadPropertyFile(path string) (Properties, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadProperties(f, path)
}

// Set stores one setting given as "name=value" or "name:value".
func (p Properties) Set(setting string) error {
	i := strings.IndexAny(setting, "=:")
	if i <= 0 {
		return fmt.Errorf("ycsb: setting %q is not name=value", setting)
	}
	p[strings.TrimSpace(setting[:i])] = strings.TrimSpace(setting[i+1:])
	return nil
}

// Merge overrides p's settings with those of q.
func (p Properties) Merge(q Properties) {
	for name, value := range q {
		p[name] = value
	}
}
