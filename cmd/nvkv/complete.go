package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// completeValues lets a shell complete the values of flags, and the names of stores.
func completeValues(root *cobra.Command) {
	fixed := map[string][]string{
		"device":       deviceKinds,
		"format":       {"jsonl", "csv", "tsv", "lines"},
		"engines":      {"nvkv", "bbolt", "pebble"},
		"workloads":    {"a", "b", "c", "d", "e", "f"},
		"distribution": {"zipfian", "uniform", "latest"},
	}
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		for name, values := range fixed {
			if cmd.Flags().Lookup(name) != nil || cmd == root && cmd.PersistentFlags().Lookup(name) != nil {
				list := name == "engines" || name == "workloads"
				// It fails only for a flag that is not there, or that has a completion.
				_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
					return completeList(values, word, list), cobra.ShellCompDirectiveNoFileComp
				})
			}
		}
		if at := storeArg(cmd); at >= 0 && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				if len(args) != at {
					return nil, cobra.ShellCompDirectiveDefault
				}
				return completeStore(word)
			}
		}
		for _, c := range cmd.Commands() {
			each(c)
		}
	}
	each(root)
}

// storeArg returns which argument of a command is a store that exists, or -1.
func storeArg(cmd *cobra.Command) int {
	words := strings.Fields(cmd.Use)
	if len(words) > 1 && words[1] == "STORE" {
		return 0
	}
	return -1
}

// completeList returns the values that complete a word or, in a list with commas, its last part.
func completeList(values []string, word string, list bool) (out []string) {
	before := ""
	if list {
		at := strings.LastIndexByte(word, ',') + 1
		before, word = word[:at], word[at:]
	}
	for _, v := range values {
		if strings.HasPrefix(v, word) && !strings.Contains(","+before, ","+v+",") {
			out = append(out, before+v)
		}
	}
	return out
}

// mostLooked bounds the files that a completion opens.
const mostLooked = 200

// completeStore returns the stores and the directories that begin with a word.
func completeStore(word string) (out []string, _ cobra.ShellCompDirective) {
	directory, base := filepath.Split(word)
	from := directory
	if from == "" {
		from = "."
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	directive, looked := cobra.ShellCompDirectiveNoFileComp, 0
	for _, e := range entries {
		path := directory + e.Name()
		switch {
		case !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			out = append(out, path+string(filepath.Separator))
			directive |= cobra.ShellCompDirectiveNoSpace
		case looked < mostLooked && e.Type()&^os.ModeSymlink == 0:
			if looked++; isStore(path) {
				out = append(out, path)
			}
		}
	}
	return out, directive
}

// isStore says whether a file begins as a store of any version does: docs/format.md, Head.
func isStore(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [6]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x00\x89nvkv"
}
