package serve

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
)

// stdioSession is the one client of a stdio server. mcp-go's own is shared by
// the whole process; this one belongs to its loop.
type stdioSession struct {
	log           *slog.Logger
	gone          context.CancelFunc
	notifications chan mcp.JSONRPCNotification
	initialized   atomic.Bool
	requests      requests

	mu           sync.Mutex
	out          io.Writer
	err          error
	info         mcp.Implementation
	protocol     string
	capabilities mcp.ClientCapabilities
}

func newStdioSession(out io.Writer, log *slog.Logger, gone context.CancelFunc) *stdioSession {
	return &stdioSession{out: out, log: log, gone: gone, notifications: make(chan mcp.JSONRPCNotification, 128)}
}

// write sends one message as one line. A client that cannot be written to has
// gone, so the server ends.
func (s *stdioSession) write(m mcp.JSONRPCMessage) {
	line, err := encodeLine(m)
	if err != nil {
		s.log.Error("a message could not be encoded", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if _, err := s.out.Write(line); err != nil {
		s.err = err
		s.gone()
	}
}

// Notify writes a notification of a running call.
func (s *stdioSession) Notify(n mcp.JSONRPCNotification) error {
	s.write(n)
	return nil
}

// encodeLine is json.Marshal and a line feed. It calls a result's MarshalJSON
// directly: encoding/json would scan the returned text again byte by byte, which is
// most of the work for a long reply.
func encodeLine(m mcp.JSONRPCMessage) ([]byte, error) {
	if r, ok := m.(mcp.JSONRPCResponse); ok {
		if result, ok := r.Result.(*mcp.CallToolResult); ok && result != nil {
			id, err := json.Marshal(r.ID)
			if err != nil {
				return nil, err
			}
			b, err := result.MarshalJSON()
			if err != nil {
				return nil, err
			}
			line := make([]byte, 0, len(b)+len(id)+64)
			line = append(line, `{"jsonrpc":"`+mcp.JSONRPC_VERSION+`","id":`...)
			line = append(append(append(line, id...), `,"result":`...), b...)
			return append(line, "}\n"...), nil
		}
	}
	b, err := json.Marshal(m)
	return append(b, '\n'), err
}

func (s *stdioSession) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// forward writes the notifications of mcp-go itself.
func (s *stdioSession) forward(ctx context.Context) {
	for {
		select {
		case n := <-s.notifications:
			s.write(n)
		case <-ctx.Done():
			return
		}
	}
}

func (s *stdioSession) SessionID() string { return stdioKey }

func (s *stdioSession) NotificationChannel() chan<- mcp.JSONRPCNotification { return s.notifications }

func (s *stdioSession) Initialize() { s.initialized.Store(true) }

func (s *stdioSession) Initialized() bool { return s.initialized.Load() }

func (s *stdioSession) GetClientInfo() mcp.Implementation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

func (s *stdioSession) SetClientInfo(i mcp.Implementation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = i
}

// ProtocolVersion is what was negotiated, "" before.
func (s *stdioSession) ProtocolVersion() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.protocol
}

func (s *stdioSession) SetProtocolVersion(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protocol = version
}

func (s *stdioSession) GetClientCapabilities() mcp.ClientCapabilities {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capabilities
}

func (s *stdioSession) SetClientCapabilities(c mcp.ClientCapabilities) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capabilities = c
}
