// Fst looks words up in a dictionary of package vellum that lies on a disk, through a transparent
// map. vellum works on a []byte and knows nothing of nvmap.
//
//	fst DICTIONARY WORD...
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/blevesearch/vellum"

	"nvkv/nvmap"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: fst DICTIONARY WORD...")
	}
	info, err := os.Stat(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	p, err := nvmap.OpenPaged(os.Args[1], &nvmap.PagedOptions{CacheBytes: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	// A device has whole pages, and vellum looks for its root at the end.
	if err := lookUp(p.Bytes()[:info.Size()], os.Args[2:]); err != nil {
		log.Print(err)
	}
}

// lookUp prints the value of each word in a dictionary.
func lookUp(b []byte, words []string) error {
	fst, err := vellum.Load(b)
	if err != nil {
		return err
	}
	for _, word := range words {
		value, found, err := fst.Get([]byte(word))
		if err != nil {
			return err
		}
		fmt.Println(word, value, found)
	}
	return nil
}
