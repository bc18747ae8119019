package api

import (
	_ "embed" // openapi.yaml
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/control"
)

const (
	typeEntry   = "application/cloudevents+json"
	typeText    = "text/plain; charset=utf-8"
	typeBinary  = "application/octet-stream"
	typeKeySet  = "application/jwk-set+json"
	typeYAML    = "application/yaml"
	shortPublic = "public, max-age=60"
	keysPublic  = "public, max-age=300"
)

var decimalIndex = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})$`)

func (c *call) index() (int64, error) {
	text := c.PathValue("index")
	if !decimalIndex.MatchString(text) {
		return 0, notFound("there is no such entry")
	}
	return strconv.ParseInt(text, 10, 64)
}

func (s *server) entry(c *call) (*reply, error) {
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	body, err := s.Log.Entry(c.Context(), index)
	if err != nil {
		return nil, err
	}
	return &reply{raw: body, content: typeEntry}, nil
}

// proof holds hashes alone, which whoever reads the public tiles can compute.
func (s *server) proof(c *call) (*reply, error) {
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	proof, err := s.Log.Proof(c.Context(), index)
	if err != nil {
		return nil, err
	}
	text, err := proof.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the proof: %w", err)
	}
	return &reply{raw: text, content: typeText}, nil
}

func (s *server) values(c *call) (*reply, error) {
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	if _, err := s.Log.Entry(c.Context(), index); err != nil {
		return nil, err
	}
	disclosures, err := s.Log.Disclosures(c.Context(), index)
	if err != nil {
		return nil, err
	}
	out := client.Values{Values: map[string]json.RawMessage{}}
	for slot, disclosure := range disclosures {
		if out.Values[slot], err = json.Marshal(disclosure); err != nil {
			return nil, fmt.Errorf("encode a value: %w", err)
		}
	}
	return &reply{value: out}, nil
}

func (s *server) erase(c *call) (*reply, error) {
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Erasure](c, "slots")
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.Erase(c.Context(), c.caller, index, body.Slots, control.Grounds{Reason: body.Reason, Approval: body.Approval})
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) checkpoint(*call) (*reply, error) {
	return &reply{raw: s.Log.Checkpoint(), content: typeText, cache: "no-cache"}, nil
}

// tile serves a tile of hashes (c2sp.org/tlog-tiles). A full one never changes.
func (s *server) tile(c *call) (*reply, error) {
	level, index, width, err := evidence.ParseTilePath("tile/" + c.PathValue("path"))
	if err != nil {
		return nil, notFound("there is no such tile")
	}
	data, err := s.Log.Tile(c.Context(), level, index, width)
	if err != nil {
		return nil, err
	}
	return &reply{raw: data, content: typeBinary, cache: tileCache("public", width)}, nil
}

func (s *server) entryBundle(c *call) (*reply, error) {
	_, index, width, err := evidence.ParseTilePath("tile/entries/" + c.PathValue("path"))
	if err != nil {
		return nil, notFound("there is no such entry bundle")
	}
	data, err := s.Log.EntryBundle(c.Context(), index, width)
	if err != nil {
		return nil, err
	}
	return &reply{raw: data, content: typeBinary, cache: tileCache("private", width)}, nil
}

func tileCache(whose string, width int) string {
	if width == evidence.TileWidth {
		return whose + ", " + immutable
	}
	return whose + ", max-age=60"
}

func (s *server) jwks(*call) (*reply, error) {
	return &reply{raw: s.JWKS, content: typeKeySet, cache: keysPublic}, nil
}

func (s *server) metadata(*call) (*reply, error) {
	return &reply{raw: s.Metadata, content: typeJSON, cache: keysPublic}, nil
}

// status is what a probe is told.
type status struct {
	Status string `json:"status"`
}

func (s *server) healthz(*call) (*reply, error) { return &reply{value: status{"ok"}}, nil }

func (s *server) readyz(c *call) (*reply, error) {
	if err := s.Health(c.Context()); err != nil {
		c.w.cause = err
		return nil, fault(codeNotReady, "this process cannot serve now")
	}
	return &reply{value: status{"ready"}}, nil
}

func (s *server) metrics(*call) (*reply, error) { return &reply{handler: s.Metrics}, nil }

//go:embed openapi.yaml
var openapiYAML []byte

func (s *server) openapiYAML(*call) (*reply, error) {
	return &reply{raw: openapiYAML, content: typeYAML, cache: shortPublic}, nil
}

func (s *server) openapiDocument(*call) (*reply, error) {
	return &reply{raw: s.openapi, content: typeJSON, cache: shortPublic}, nil
}

// openapiJSON is the embedded document as JSON. It is compiled in, so a fault in it is a bug that every test shows.
func openapiJSON() []byte {
	var document any
	if err := yaml.Unmarshal(openapiYAML, &document); err != nil {
		panic("the embedded OpenAPI document: " + err.Error())
	}
	out, err := json.Marshal(document)
	if err != nil {
		panic("the embedded OpenAPI document: " + err.Error())
	}
	return out
}

var _ http.Handler = (*server)(nil)
