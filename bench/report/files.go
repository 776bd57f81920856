package report

import (
	"errors"
	"os"
	"path/filepath"

	"nvkv/bench"
)

// WritePlots writes throughput.svg, throughput.png, write-amplification.svg
// and write-amplification.png to dir.
func WritePlots(dir string, r *bench.Report) error {
	paint := newPainter(r, onPaper)
	throughput, some := paint.throughput(false)
	if !some {
		return errors.New("report: there is nothing to plot")
	}
	err := throughput.write(dir, "throughput")
	if amplification, some := paint.writeAmplification(false); some {
		err = errors.Join(err, amplification.write(dir, "write-amplification"))
	}
	return err
}

func (f figure) write(dir, name string) error {
	text, err := svg(f.plot, f.w, f.h)
	if err != nil {
		return err
	}
	image, err := png(f.plot, f.w, f.h)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, name)
	return errors.Join(os.WriteFile(base+".svg", []byte(text), 0o666), os.WriteFile(base+".png", image, 0o666))
}
