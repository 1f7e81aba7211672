package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// Bounds of images handed to a model.
const (
	maxImageEdge  = 1568    // pixels of the longer edge
	maxImageBytes = 1 << 20 // bytes as encoded, before base64
	// maxImageFile and maxPixels bound what is read and decoded: 32 million
	// pixels are 128 MiB as RGBA.
	maxImageFile = 64 << 20
	maxPixels    = 32 << 20
)

// decoders are the image decoders of the whole server. A decoded picture takes
// up to 128 MiB, and one that is made smaller as much again for a moment.
var decoders = make(chan struct{}, 2)

// cancellable is a reader that ends with the call.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// readImage fills res.Image with the picture, made smaller if need be. One that
// cannot be shown is described instead.
func (f *FS) readImage(ctx context.Context, file *os.File, res ReadResult) (ReadResult, error) {
	describe := func(why string) (ReadResult, error) {
		res.Note = fmt.Sprintf("%s of %d bytes, not shown: %s", res.MIME, res.Size, why)
		return res, nil
	}
	if res.Size > maxImageFile {
		return describe("it is larger than 64 MiB; make it smaller with a command first")
	}
	// The size is asked of the header before any pixel is decoded: a small
	// file may declare a huge picture.
	cfg, err := imageCodec(res.MIME).config(io.NewSectionReader(file, 0, res.Size))
	if err != nil {
		return describe("its header is damaged")
	}
	res.Width, res.Height = cfg.Width, cfg.Height
	if cfg.Width <= 0 || cfg.Height <= 0 {
		return describe("it has no pixels")
	}
	if int64(cfg.Width)*int64(cfg.Height) > maxPixels {
		return describe(fmt.Sprintf("%dx%d pixels are more than can be decoded; make it smaller with a command first", cfg.Width, cfg.Height))
	}
	shown := res.MIME == "image/png" || res.MIME == "image/jpeg" || res.MIME == "image/gif" || res.MIME == "image/webp"
	if shown && max(cfg.Width, cfg.Height) <= maxImageEdge && res.Size <= maxImageBytes {
		b := make([]byte, res.Size)
		if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return res, unwrapPath(err)
		}
		res.Image = b
		return res, nil
	}
	for _, slot := range []chan struct{}{f.decode, decoders} {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
	img, err := imageCodec(res.MIME).decode(&cancellable{ctx, io.NewSectionReader(file, 0, res.Size)})
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if err != nil {
		return describe("it is damaged")
	}
	out, mime, size := shrink(ctx, img)
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if out == nil {
		return describe("it could not be made small enough")
	}
	res.Image = out
	res.Note = fmt.Sprintf("the original is %s, %dx%d pixels, %d bytes; shown as %s, %dx%d", res.MIME, cfg.Width, cfg.Height, res.Size, mime, size.X, size.Y)
	res.MIME = mime
	return res, nil
}

type codec struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

// imageCodec picks the decoder by hand: the registry of package image would
// take in whatever the rest of the program links.
func imageCodec(mime string) codec {
	switch mime {
	case "image/png":
		return codec{png.DecodeConfig, png.Decode}
	case "image/jpeg":
		return codec{jpeg.DecodeConfig, jpeg.Decode}
	case "image/gif":
		return codec{gif.DecodeConfig, gif.Decode}
	case "image/webp":
		return codec{webp.DecodeConfig, webp.Decode}
	case "image/bmp":
		return codec{bmp.DecodeConfig, bmp.Decode}
	}
	return codec{tiff.DecodeConfig, tiff.Decode}
}

// shrink scales img to fit the bounds and encodes it: PNG while that is small
// enough, which keeps text sharp, then JPEG on white.
func shrink(ctx context.Context, img image.Image) ([]byte, string, image.Point) {
	size := img.Bounds().Size()
	edge := maxImageEdge
	for range 6 {
		if ctx.Err() != nil {
			break
		}
		w, h := fit(size, edge)
		dst := image.NewRGBA(image.Rect(0, 0, w, h))
		if w == size.X && h == size.Y {
			draw.Draw(dst, dst.Bounds(), img, img.Bounds().Min, draw.Src)
		} else {
			draw.CatmullRom.Scale(dst, dst.Bounds(), img, img.Bounds(), draw.Src, nil)
		}
		var b bytes.Buffer
		if err := png.Encode(&b, dst); err == nil && b.Len() <= maxImageBytes {
			return b.Bytes(), "image/png", image.Pt(w, h)
		}
		flat := image.NewRGBA(dst.Bounds())
		draw.Draw(flat, flat.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(flat, flat.Bounds(), dst, image.Point{}, draw.Over)
		for _, q := range []int{85, 70, 50} {
			b.Reset()
			if err := jpeg.Encode(&b, flat, &jpeg.Options{Quality: q}); err == nil && b.Len() <= maxImageBytes {
				return b.Bytes(), "image/jpeg", image.Pt(w, h)
			}
		}
		edge = edge * 3 / 4
	}
	return nil, "", image.Point{}
}

// fit is size scaled down to at most edge on the longer side.
func fit(size image.Point, edge int) (w, h int) {
	long := max(size.X, size.Y)
	if long <= edge {
		return size.X, size.Y
	}
	return max(1, size.X*edge/long), max(1, size.Y*edge/long)
}
