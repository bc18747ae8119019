package main

import (
	"fmt"
	"io"
)

// compared is one kind of callers beside the plain ones, repeat by repeat.
type compared struct {
	Database    string  `json:"database"`
	Callers     callers `json:"callers"`
	Connections int     `json:"connections"`
	Rate        spread  `json:"rate_to_plain"`
	BareRate    spread  `json:"bare_rate_to_plain"` // the same of the bare handler: what is not Writ's
	CPU         spread  `json:"cpu_us_more"`        // of the server's, a request
	BareCPU     spread  `json:"bare_cpu_us_more"`
	CallersCPU  spread  `json:"callers_cpu_us_more"` // without the proofs, which are made before
	Proving     spread  `json:"proving_cpu_us"`
	Handshake   spread  `json:"handshake_cpu_us"` // of the server, for each
	Handshakes  int64   `json:"handshakes"`       // before a pass
	LateProofs  int64   `json:"late_proofs"`      // in all repeats
	Memory      spread  `json:"rss_highest_mib_more"`
}

func compare(database string, how callers, connections int, before, beside []repeat) compared {
	figure := func(of func(a, b *repeat) float64) spread {
		values := make([]float64, len(beside))
		for i := range beside {
			values[i] = of(&before[i], &beside[i])
		}
		return spreadOf(values)
	}
	out := compared{
		Database: database, Callers: how, Connections: connections, Handshakes: beside[0].Warm.Handshakes,
		Rate:       figure(func(a, b *repeat) float64 { return b.Warm.Rate / a.Warm.Rate }),
		BareRate:   figure(func(a, b *repeat) float64 { return b.Bare.Rate / a.Bare.Rate }),
		CPU:        figure(func(a, b *repeat) float64 { return b.Warm.CPU - a.Warm.CPU }),
		BareCPU:    figure(func(a, b *repeat) float64 { return b.Bare.CPU - a.Bare.CPU }),
		CallersCPU: figure(func(a, b *repeat) float64 { return b.Warm.Callers - a.Warm.Callers }),
		Proving:    figure(func(_, b *repeat) float64 { return b.Warm.Proving }),
		Handshake:  figure(func(_, b *repeat) float64 { return b.Warm.Handshake }),
		Memory:     figure(func(a, b *repeat) float64 { return b.Highest - a.Highest }),
	}
	for i := range beside {
		out.LateProofs += beside[i].Warm.LateProofs
	}
	return out
}

func printCallers(w io.Writer, cells []cell, all []compared) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "\nCallers beside plain ones, in the same repeats: requests a second as a share of theirs, CPU µs a request beyond theirs")
	fmt.Fprintf(w, "%-10s %4s %-5s %9s %8s %8s  %-21s %-21s %-18s %8s %8s %8s\n",
		"", "conn", "", "req/s", "p50 ms", "p99 ms", "share", "of the bare handler", "CPU more", "bare", "callers", "MiB more")
	for i := range cells {
		c := &cells[i]
		fmt.Fprintf(w, "%-10s %4d %-5s %9.0f %8.2f %8.2f", c.Database, c.Connections, c.Callers, c.Warm.Rate.Median, c.Warm.P50.Median, c.Warm.P99.Median)
		for k := range all {
			o := &all[k]
			if o.Database != c.Database || o.Callers != c.Callers || o.Connections != c.Connections {
				continue
			}
			fmt.Fprintf(w, "  %-21s %-21s %-18s %8.0f %8.0f %8.1f", o.Rate.told("%.3f"), o.BareRate.told("%.3f"), o.CPU.told("%.0f"), o.BareCPU.Median, o.CallersCPU.Median, o.Memory.Median)
			if o.Proving.Median > 0 {
				fmt.Fprintf(w, "  proofs made before, %.0f µs each; %d while timed", o.Proving.Median, o.LateProofs)
			}
			if o.Handshakes > 0 {
				fmt.Fprintf(w, "  %d handshakes before", o.Handshakes)
			}
			if o.Handshake.Median > 0 {
				fmt.Fprintf(w, ", %.0f µs of the server each", o.Handshake.Median)
			}
		}
		fmt.Fprintln(w)
	}
}

// told is the median and what it lies between.
func (s spread) told(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Low, s.High)
}
