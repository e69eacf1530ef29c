package accesslog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	// FingerprintLines is how many lines of a log's head tell it.
	FingerprintLines = 100

	// fingerprintBytes bounds how much of a log is read for them.
	fingerprintBytes = 1 << 20
)

// Fingerprints returns what tells a log by its first line, by its first two, and
// so on, up to FingerprintLines: under whatever name it stands, whether it is
// gzipped, and when it has grown. They are made of times, requests and answers,
// and of no address and no agent: nobody learns one from them by trying. Where
// reading fails they end: who reads the log is told why.
func Fingerprints(r io.Reader) ([]string, error) {
	unpacked, err := Unpacked(r)
	if err != nil {
		return nil, err
	}
	lines := newLines(unpacked)
	hash := sha256.New()
	var list []string
	for len(list) < FingerprintLines && lines.at < fingerprintBytes {
		line, ok, failed := lines.next()
		ended := failed != nil
		if errors.Is(failed, io.EOF) {
			line, ok = lines.rest()
		}
		e, err := Parse(string(line))
		switch {
		case ended && (err != nil || !ok):
			return list, nil
		case err != nil || !ok: // what is no line could hold anything
			fmt.Fprintf(hash, "%d\n", len(line))
		default:
			fmt.Fprintf(hash, "%d %q %q %q %d\n", e.Time.Unix(), e.Method, e.Path, e.Query, e.Status)
		}
		list = append(list, hex.EncodeToString(hash.Sum(nil)[:16]))
		if ended {
			break
		}
	}
	return list, nil
}
