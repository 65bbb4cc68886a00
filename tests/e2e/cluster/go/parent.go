package main

import (
	"io"
	"os"
	"syscall"
	"time"
)

// followStdin ends this program when its standard input is closed. Tests start a component with a pipe as standard input
// and hold the other end: however the tests end, also by SIGKILL, the kernel closes the pipe and nothing is left running.
// (PR_SET_PDEATHSIG would do the same for the thread that started us, not for the process.)
func followStdin() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(5 * time.Second)
		os.Exit(1)
	}()
}
