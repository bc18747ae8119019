package main

import (
	"math/bits"
	"time"
)

// histogram counts every latency, in steps of less than 1.6 %.
type histogram struct {
	counts [64 * 60]int64
	total  int64
	max    time.Duration
}

func (h *histogram) record(d time.Duration) {
	h.counts[step(d)]++
	h.total++
	h.max = max(h.max, d)
}

// step is linear below 64 ns, and 64 steps for each doubling above.
func step(d time.Duration) int {
	shift := max(bits.Len64(uint64(d))-7, 0)
	return shift*64 + int(d>>shift)
}

// upper is the largest duration in a step.
func upper(i int) time.Duration {
	if i < 128 {
		return time.Duration(i)
	}
	shift := i/64 - 1
	return time.Duration(int64(i-shift*64+1)<<shift - 1)
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile is the latency that the share q of all did not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := int64(q*float64(h.total)+0.5), int64(0)
	for i, n := range h.counts {
		if seen += n; seen >= max(rank, 1) && n > 0 {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
