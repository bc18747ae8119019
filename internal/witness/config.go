package witness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/evidence"
)

// The other files of a witness's folder.
const (
	keyFile    = "witness.key"
	publicFile = "witness.pub"
	configFile = "witness.yaml"
)

// Config is witness.yaml.
type Config struct {
	// Listen is the address that the witness is served on.
	Listen string `yaml:"listen"`
	// Logs are the verifier keys of the logs that it cosigns, as in their log.pub. Two keys of one name are of one log.
	Logs []string `yaml:"logs"`
	// TLS is required unless Listen is a loopback address or BehindProxy is set.
	TLS TLS `yaml:"tls"`
	// BehindProxy says that a proxy on a trusted network ends TLS.
	BehindProxy bool `yaml:"behind_proxy"`
}

// TLS names the certificate.
type TLS struct {
	// Certificate is a PEM file with the chain, leaf first.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file, mode 0600.
	Key string `yaml:"key"`
}

// Init makes the folder of a new witness: key, verifier key, configuration, and the empty memory. It overwrites nothing: a
// file that is there already is an error, and then nothing has been written. It returns the verifier key.
func Init(folder, name string, logKeys []string, rand io.Reader) (string, error) {
	secret, public, err := evidence.GenerateWitnessKey(name, rand)
	if err != nil {
		return "", err
	}
	if _, err := logsByOrigin(logKeys, public); err != nil {
		return "", err
	}
	files := map[string]string{keyFile: secret + "\n", publicFile: public + "\n", configFile: configText(logKeys)}
	for _, name := range []string{keyFile, publicFile, configFile, stateFile, forgottenFile} {
		if _, err := os.Lstat(filepath.Join(folder, name)); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s is there already: choose an empty folder", filepath.Join(folder, name))
		}
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", err
	}
	for name, content := range files {
		mode := fs.FileMode(0o644)
		if name == keyFile {
			mode = 0o600
		}
		if err := writeFlushed(filepath.Join(folder, name), []byte(content), os.O_EXCL, mode); err != nil {
			return "", err
		}
	}
	return public, createMemory(folder, public)
}

func configText(logKeys []string) string {
	text := "listen: 127.0.0.1:8421 # another address needs tls, or behind_proxy\n\n# Verifier keys of the logs to cosign (the content of their log.pub). Restart after a change.\n"
	if len(logKeys) == 0 {
		return text + "logs: []\n"
	}
	text += "logs:\n"
	for _, key := range logKeys {
		text += fmt.Sprintf("  - %q\n", key)
	}
	return text
}

// Load reads key and configuration of a witness's folder. Relative paths are relative to the folder. Unknown settings are
// refused, and all faults are reported at once.
func Load(folder string) (Config, *evidence.Cosigner, error) {
	cosigner, err := loadKey(folder)
	if err != nil {
		return Config{}, nil, err
	}
	path := filepath.Join(folder, configFile)
	config, err := readConfig(path)
	if err != nil {
		return Config{}, nil, err
	}
	for _, file := range []*string{&config.TLS.Certificate, &config.TLS.Key} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(folder, *file)
		}
	}
	if err := config.check(cosigner.VerifierKey()); err != nil {
		return Config{}, nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return config, cosigner, nil
}

func readConfig(path string) (config Config, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return config, nil
}

func loadKey(folder string) (*evidence.Cosigner, error) {
	path := filepath.Join(folder, keyFile)
	if err := checkSecret(path); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cosigner, err := evidence.NewCosigner(strings.TrimSpace(string(content)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cosigner, nil
}

// checkSecret makes sure that a file is there and that nobody else may read it.
func checkSecret(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: `writ witness init` makes the folder of a witness", err)
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	return nil
}

func (c *Config) check(own string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	tls := c.TLS.Certificate != "" || c.TLS.Key != ""
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		fault("listen: %q is not host:port", c.Listen)
	case !tls && !c.BehindProxy && !isLoopback(host):
		fault("listen: %s can be reached from outside without TLS: set tls, or behind_proxy if a proxy ends TLS", c.Listen)
	}
	switch {
	case tls && (c.TLS.Certificate == "" || c.TLS.Key == ""):
		fault("tls: certificate and key go together")
	case tls && c.BehindProxy:
		fault("behind_proxy: not together with tls")
	case tls:
		if err := checkSecret(c.TLS.Key); err != nil {
			fault("tls.key: %w", err)
		}
	}
	if len(c.Logs) == 0 {
		fault("logs: name at least one log by its verifier key, the content of its log.pub")
	}
	if _, err := logsByOrigin(c.Logs, own); err != nil {
		fault("logs: %w", err)
	}
	return errors.Join(faults...)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Forget sets aside what a witness that does not run knows of a log. With accept, a checkpoint that the log has signed, the
// witness has cosigned exactly that instead, and goes on from there. Without, it would take any checkpoint that the log ever
// signed; so then the log must not be among those that it cosigns. What it knew, when, and why it was forgotten stays in a file
// beside the memory, and is shown to everybody. It returns the checkpoint that was known.
// The error wraps [ErrInUse] or [ErrMemory], among others.
func Forget(folder, origin, reason string, accept []byte, at time.Time) (evidence.Checkpoint, error) {
	if strings.TrimSpace(reason) == "" {
		return evidence.Checkpoint{}, errors.New("give a reason: whoever relies on this witness will want to know it")
	}
	cosigner, err := loadKey(folder)
	if err != nil {
		return evidence.Checkpoint{}, err
	}
	path := filepath.Join(folder, configFile)
	config, err := readConfig(path)
	if err != nil {
		return evidence.Checkpoint{}, err
	}
	logs, err := logsByOrigin(config.Logs, cosigner.VerifierKey())
	if err != nil {
		return evidence.Checkpoint{}, fmt.Errorf("%s: logs: %w", path, err)
	}
	keys := logs[origin]
	if accept == nil && len(keys) > 0 {
		return evidence.Checkpoint{}, fmt.Errorf("the witness cosigns this log, and would take any checkpoint of it, also of the lost history, from anybody: "+
			"name the checkpoint to go on from with --accept (`writ evidence export --no-entries FOLDER` writes FOLDER/checkpoint), or take the log out of %s", path)
	}
	m, err := openMemory(folder, cosigner.VerifierKey())
	if err != nil {
		return evidence.Checkpoint{}, err
	}
	known, err := m.forget(origin, reason, at, func(known record) (record, error) {
		if accept == nil {
			return record{}, nil
		}
		return accepted(cosigner, known, accept, keys, at)
	})
	return known.checkpoint, errors.Join(err, m.close())
}

// accepted is the record of a checkpoint that the operator accepts in the place of the known one.
func accepted(cosigner *evidence.Cosigner, known record, signed []byte, logKeys []string, at time.Time) (record, error) {
	c, err := evidence.OpenCheckpoint(signed, logKeys...)
	if err == nil {
		signed, err = evidence.LogSignatures(signed, logKeys...)
	}
	if err != nil {
		return record{}, fmt.Errorf("the checkpoint to accept: %w", err)
	}
	if at, err = known.next(at); err != nil {
		return record{}, err
	}
	line, err := cosigner.Cosign(c, at)
	if err != nil {
		return record{}, err
	}
	merged, err := evidence.MergeCosignatures(signed, line, cosigner.VerifierKey())
	return record{c, at, merged}, err
}
