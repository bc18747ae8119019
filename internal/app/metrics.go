package app

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/store"
)

// metrics are what /metrics shows. No label holds an identity, a resource or anything an agent chose.
type metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	requests  *prometheus.HistogramVec
}

func newMetrics(s *store.Store) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "writ_decisions_total", Help: "Recorded decisions by outcome and refusal code.",
		}, []string{"outcome", "code"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "writ_http_request_duration_seconds", Help: "Duration of API requests by route and status.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"route", "status"}),
	}
	m.registry.MustRegister(
		m.decisions, m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "writ_log_entries", Help: "Size of the evidence log.",
		}, func() float64 { return float64(s.Size()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "writ_commits_total", Help: "Commits to the database that this process has made or seen; each is one flush.",
		}, func() float64 { return float64(s.Commits()) }),
	)
	return m
}

// svids shows whether the sources of bundles answer. That is no part of /readyz: somebody else's outage must not end this service for
// those who can still call.
func (m *metrics) svids(health func() error) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "writ_spiffe_sources_healthy", Help: "1 while every source of trust bundles, and of the server's own SVID, answers as it should; the log says which does not.",
	}, func() float64 {
		if health() != nil {
			return 0
		}
		return 1
	}))
}

func (m *metrics) decided(outcome access.Outcome, code access.Code) {
	m.decisions.WithLabelValues(string(outcome), string(code)).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// measure times every request under the route that served it.
func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		route := r.Pattern
		if route == "" {
			route = "none"
		}
		m.requests.WithLabelValues(route, strconv.Itoa(recorder.status)).Observe(time.Since(start).Seconds())
	})
}

type statusRecorder struct {
	http.ResponseWriter

	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
