// Command tesseralog is a log made by Tessera, with Tessera's own client of witnesses. Each line of its standard input is an
// entry; after each it prints the published checkpoint, in quotes on one line, which the witness must have cosigned.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	folder := flag.String("folder", "", "of the log")
	key := flag.String("key", "", "file with the signer key of the log")
	witness := flag.String("witness", "", "URL of the witness")
	witnessKey := flag.String("witness-key", "", "verifier key of the witness")
	flag.Parse()
	if err := run(*folder, *key, *witness, *witnessKey); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder, keyFile, witness, witnessKey string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(string(key))
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	if err != nil {
		return err
	}
	u, err := url.Parse(witness)
	if err != nil {
		return err
	}
	w, err := tessera.NewWitness(witnessKey, u)
	if err != nil {
		return err
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithBatching(1, 10*time.Millisecond).WithCheckpointInterval(100*time.Millisecond).
		WithWitnesses(tessera.NewWitnessGroup(1, w), &tessera.WitnessOptions{Timeout: 10 * time.Second}))
	if err != nil {
		return err
	}
	published := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_, checkpoint, err := published.Await(ctx, appender.Add(ctx, tessera.NewEntry(lines.Bytes())))
		if err != nil {
			return err
		}
		fmt.Printf("%q\n", checkpoint)
	}
	return shutdown(ctx)
}
