// The program of the images that clients push and pull. It prints the two files that
// the other layers of its image have.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, name := range []string{"/text", "/platform"} {
		data, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(data)
	}
}
