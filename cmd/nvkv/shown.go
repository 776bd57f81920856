package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// shown returns text, such as a path, with unprintable characters escaped. The name of a file must
// not control a terminal or forge a line.
func shown(text string) string {
	if isShown(text) {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		c, n := utf8.DecodeRuneInString(text)
		switch {
		case c == utf8.RuneError && n == 1, c < 0x80 && !strconv.IsPrint(c):
			fmt.Fprintf(&out, `\x%02x`, text[0])
		case !strconv.IsPrint(c):
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		default:
			out.WriteString(text[:n])
		}
		text = text[n:]
	}
	return out.String()
}

func isShown(text string) bool {
	for i, c := range text {
		if !strconv.IsPrint(c) || c == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") {
			return false
		}
	}
	return true
}
