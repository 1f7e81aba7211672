package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// limit is how long an emulated guest may take for one answer.
const limit = 3 * time.Minute

// server is a server that answers one call after the other.
type server struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan answer
	last    int
}

type answer struct {
	ID     *int `json:"id"`
	Result struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
		IsError bool `json:"isError"`
	} `json:"result"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func start(command []string) (*server, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, in: in, answers: make(chan answer)}
	go s.read(out)
	if _, err := s.ask("initialize", map[string]any{
		"protocolVersion": "2025-11-25", "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "hosts", "version": "1"},
	}); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return s, s.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
}

func (s *server) read(out io.Reader) {
	defer close(s.answers)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			fmt.Printf("FAIL a line of the server is not a message: %q\n", lines.Text())
			return
		}
		if a.ID != nil {
			s.answers <- a
		}
	}
}

func (s *server) send(message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = s.in.Write(append(b, '\n'))
	return err
}

func (s *server) ask(method string, params any) (answer, error) {
	s.last++
	if err := s.send(map[string]any{"jsonrpc": "2.0", "id": s.last, "method": method, "params": params}); err != nil {
		return answer{}, err
	}
	timeout := time.After(limit)
	for {
		select {
		case a, ok := <-s.answers:
			switch {
			case !ok:
				return answer{}, errors.New("the server is gone")
			case *a.ID != s.last:
				continue
			case a.Error != nil:
				return answer{}, errors.New(a.Error.Message)
			}
			return a, nil
		case <-timeout:
			return answer{}, fmt.Errorf("no answer to %s within %s", method, limit)
		}
	}
}

// call is the text of a tool's result and whether it is an error.
func (s *server) call(tool string, args map[string]any) (string, bool, error) {
	if args == nil {
		args = map[string]any{}
	}
	a, err := s.ask("tools/call", map[string]any{"name": tool, "arguments": args})
	if err != nil {
		return "", false, err
	}
	var text strings.Builder
	for _, c := range a.Result.Content {
		text.WriteString(c.Text)
	}
	return text.String(), a.Result.IsError, nil
}

func (s *server) stop() error {
	_ = s.in.Close()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("it still ran after %s", limit)
	}
}
