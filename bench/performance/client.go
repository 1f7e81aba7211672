package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"mcp-sandbox/library"
)

// client asks a server in this process over two pipes, as a client outside does.
type client struct {
	in  io.Writer
	out *bufio.Reader
	id  int
}

// serveInProcess starts the stdio loop; stop ends it and waits for it.
func serveInProcess(ctx context.Context, box *library.Server) (c *client, stop func()) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return &client{in: failing{err}}, func() {}
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		inRead.Close()
		inWrite.Close()
		return &client{in: failing{err}}, func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = box.ServeStdio(ctx, inRead, outWrite)
	}()
	c = &client{in: inWrite, out: bufio.NewReaderSize(outRead, 64<<10)}
	if _, err := c.request("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"performance","version":"0"}}`); err != nil {
		c.in = failing{err}
	} else if _, err := io.WriteString(inWrite, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"); err != nil {
		c.in = failing{err}
	}
	return c, func() {
		inWrite.Close()
		<-done
		inRead.Close()
		outRead.Close()
		outWrite.Close()
	}
}

// failing gives the error of the start to the first call.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// request sends one and reads until its reply.
func (c *client) request(method, params string) ([]byte, error) {
	c.id++
	if _, err := fmt.Fprintf(c.in, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", c.id, method, params); err != nil {
		return nil, err
	}
	mark := fmt.Appendf(nil, `"id":%d`, c.id)
	for {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if bytes.Contains(line, mark) {
			return line, nil
		}
	}
}

// call is one exec_command.
func (c *client) call() error {
	line, err := c.request("tools/call", `{"name":"exec_command","arguments":{"cmd":"true"}}`)
	if err != nil {
		return err
	}
	var reply struct {
		Error  json.RawMessage `json:"error"`
		Result struct {
			IsError bool `json:"isError"`
		} `json:"result"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return err
	}
	if reply.Error != nil || reply.Result.IsError {
		return fmt.Errorf("the call failed: %.300s", line)
	}
	return nil
}

// syscalls is how often a system call is made in a call of the tool.
type syscalls struct {
	name  string
	times float64 // per call
}

// count traces this process and init with strace over some calls. Without strace it
// counts nothing.
func count(dir string, init int, call func() error) (server, inside []syscalls, err error) {
	if _, err := exec.LookPath("strace"); err != nil || init == 0 {
		return nil, nil, nil
	}
	const calls = 100
	for i, pid := range []int{os.Getpid(), init} {
		file := fmt.Sprintf("%s/strace-%d", dir, i)
		cmd := exec.Command("strace", "-f", "-c", "-U", "name,calls", "-o", file, "-p", fmt.Sprint(pid))
		said, err := cmd.StderrPipe()
		if err != nil {
			return nil, nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}
		attached := bufio.NewReader(said)
		if line, err := attached.ReadString('\n'); err != nil || !strings.Contains(line, "attached") {
			_ = cmd.Wait()
			return nil, nil, nil // tracing is refused here
		}
		go io.Copy(io.Discard, attached)
		time.Sleep(300 * time.Millisecond) // strace tells of the first thread, and attaches the others
		for range calls {
			if err := call(); err != nil {
				return nil, nil, err
			}
		}
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		found, err := readCounts(file, calls)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			server = found
		} else {
			inside = found
		}
	}
	return server, inside, nil
}

// readCounts reads strace's summary, the most frequent call first.
func readCounts(file string, calls int) ([]syscalls, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []syscalls
	for line := range strings.Lines(string(b)) {
		var s syscalls
		var n int
		if k, _ := fmt.Sscan(line, &s.name, &n); k == 2 && s.name != "total" {
			if s.times = float64(n) / float64(calls); s.times >= .5 {
				list = append(list, s)
			}
		}
	}
	if list == nil {
		return nil, errors.New("strace gave no counts")
	}
	return list, nil
}
