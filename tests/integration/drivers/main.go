// pgx: its default mode prepares every statement and keeps it (QueryExecModeCacheStatement).
package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
)

func client(i int, url string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	tenant := fmt.Sprintf("tenant %d", i)
	if _, err = conn.Exec(ctx, "SELECT set_config('app.tenant', $1, false)", tenant); err != nil {
		return err
	}
	for round := 0; round < 25; round++ {
		var n int
		var got string
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT $1::int + 1, current_setting('app.tenant')", 100*i+round).Scan(&n, &got)
		})
		if err != nil {
			return err
		}
		if n != 100*i+round+1 || got != tenant {
			return fmt.Errorf("client %d got %d, %s", i, n, got)
		}
	}
	return nil
}

func main() {
	var all sync.WaitGroup
	errors := make(chan error, 4)
	for i := 0; i < 4; i++ {
		all.Add(1)
		go func() { defer all.Done(); errors <- client(i, os.Args[1]) }()
	}
	all.Wait()
	close(errors)
	for err := range errors {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("ok")
}
