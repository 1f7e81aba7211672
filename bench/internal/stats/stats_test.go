package stats

import (
	"math"
	"slices"
	"testing"
)

func TestQuantileAndMedian(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i) // falling, so that the order matters
	}
	for _, c := range []struct {
		name   string
		values []float64
		q      float64
		want   float64
		median float64
	}{
		{"one value is every quantile", []float64{7}, 0.95, 7, 7},
		{"nearest rank of 100", hundred, 0.95, 95, 50.5},
		{"zero is the least", hundred, 0, 1, 50.5},
		{"one is the largest", hundred, 1, 100, 50.5},
		{"few values: p95 is the largest", []float64{3, 1, 2}, 0.95, 3, 2},
		{"an even count averages the middle", []float64{4, 1, 3, 2}, 0.5, 2, 2.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := Quantile(c.values, c.q); got != c.want {
				t.Errorf("quantile %v: got %v, want %v", c.q, got, c.want)
			}
			if got := Median(c.values); got != c.median {
				t.Errorf("median: got %v, want %v", got, c.median)
			}
			if !slices.Equal(before, c.values) {
				t.Error("the samples were reordered")
			}
		})
	}
	if !math.IsNaN(Quantile(nil, 0.5)) || !math.IsNaN(Median(nil)) {
		t.Error("no values must give NaN, not a figure")
	}
}
