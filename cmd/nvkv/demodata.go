package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed" // the data of the demonstration
	"fmt"
	"strconv"
	"strings"

	"nvkv/kv"
)

// unicodeData is UnicodeData.txt of the Unicode Character Database, version 15.0.0.
// data/LICENSE-UNICODE.txt names its source and has its licence.
//
//go:embed data/UnicodeData.txt.gz
var unicodeData []byte

// character is a line of UnicodeData.txt with its records.
type character struct {
	code rune
	name string // unique, or "<...>" if a character has no name of its own
	line string
}

// characters returns the lines of UnicodeData.txt in file order, which is the order of code points.
func characters() ([]character, error) {
	z, err := gzip.NewReader(bytes.NewReader(unicodeData))
	if err != nil {
		return nil, fmt.Errorf("embedded UnicodeData.txt: %w", err)
	}
	var out []character
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		c, err := parseCharacter(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("embedded UnicodeData.txt:%d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("embedded UnicodeData.txt: %w", err)
	}
	return out, nil
}

func parseCharacter(line string) (character, error) {
	fields := strings.SplitN(line, ";", 3)
	if len(fields) < 3 {
		return character{}, fmt.Errorf("%d fields of 15", len(fields))
	}
	code, err := strconv.ParseUint(fields[0], 16, 21)
	if err != nil {
		return character{}, err
	}
	return character{rune(code), fields[1], line}, nil
}

// These are the two key spaces of the demonstration. Under the code point, in six digits so that
// keys sort like code points, is the line of UnicodeData.txt. Under the name is the code point.
const (
	charSpace = "char/"
	nameSpace = "name/"
)

func charKey(code rune) []byte { return fmt.Appendf(nil, "%s%06X", charSpace, code) }

func nameKey(name string) []byte { return []byte(nameSpace + name) }

func (c *character) named() bool { return !strings.HasPrefix(c.name, "<") }

func (c *character) codeText() []byte { return fmt.Appendf(nil, "%04X", c.code) }

// put adds the records of c to a batch.
func (c *character) put(b *kv.Batch) {
	b.Put(charKey(c.code), []byte(c.line))
	if c.named() {
		b.Put(nameKey(c.name), c.codeText())
	}
}
