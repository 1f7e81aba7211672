package ptyproc_test

import (
	"testing"

	"go.uber.org/goleak"

	"mcp-sandbox/ptyproc/ptyproctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { ptyproctest.Run(t, ptyproctest.NewUnconfined) }
