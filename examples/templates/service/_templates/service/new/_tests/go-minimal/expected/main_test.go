package main

import (
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	if status, text := answer("/healthz"); status != 200 || text != "ok\n" {
		t.Fatalf("got %d %q", status, text)
	}
}

func TestMetricsCount(t *testing.T) {
	answer("/nothing")
	if _, text := answer("/metrics"); !strings.Contains(text, `ledger_requests_total{path="/nothing"} 1`) {
		t.Fatalf("got %q", text)
	}
}
