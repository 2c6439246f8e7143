/* A line plot as an SVG file: enough for learning curves. */
#ifndef SVG_H
#define SVG_H

#include <math.h>
#include <stdio.h>

typedef struct {
  const char *name;
  const double *values;
} svg_curve;

static const char *const svg_colors[] = {"#8a8a8a", "#d1495b", "#edae49", "#e08e2b", "#c66f1a",
                                         "#a5550f", "#7d3f0a", "#30638e", "#00798c"};

/* 1, 2 or 5 times a power of ten: about five of them make `range`. */
static double svg_step(double range) {
  double power = pow(10, floor(log10(range / 5))), ratio = range / 5 / power;
  return power * (ratio < 1.5 ? 1 : ratio < 3.5 ? 2 : ratio < 7.5 ? 5 : 10);
}

/* Plots `count` curves of `length` values over 1..length; returns 0 when the file cannot be written. */
static int svg_plot(const char *path, const char *title, const char *x_label, const char *y_label,
                    const svg_curve *curves, int count, int length) {
  const double left = 70, right = 640, top = 50, bottom = 400;
  /* The first tenth of the epochs is steep: it would flatten the rest. */
  double low = INFINITY, high = -INFINITY;
  for (int i = 0; i < count; ++i)
    for (int x = length / 10; x < length; ++x) {
      low = fmin(low, curves[i].values[x]);
      high = fmax(high, curves[i].values[x]);
    }
  double step = svg_step(high - low);
  low = step * floor(low / step);
  high = step * ceil(high / step);

  FILE *file = fopen(path, "w");
  if (!file) return 0;
  fprintf(file,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 450\" font-family=\"sans-serif\""
          " font-size=\"13\">\n<rect width=\"860\" height=\"450\" fill=\"white\"/>\n"
          "<text x=\"%g\" y=\"28\" font-size=\"15\">%s</text>\n"
          "<text x=\"%g\" y=\"440\" text-anchor=\"middle\">%s</text>\n"
          "<text transform=\"translate(18 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>\n"
          "<clipPath id=\"frame\"><rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\"/></clipPath>\n",
          left, title, (left + right) / 2, x_label, (top + bottom) / 2, y_label, left, top, right - left, bottom - top);
  for (double y = low; y <= high + step / 2; y += step) {
    double at = bottom - (y - low) / (high - low) * (bottom - top);
    fprintf(file, "<path d=\"M%g %gH%g\" stroke=\"#ddd\"/><text x=\"%g\" y=\"%g\" text-anchor=\"end\">%g</text>\n",
            left, at, right, left - 8, at + 4, y);
  }
  for (double x = 0; x <= length; x += svg_step(length))
    fprintf(file, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%g</text>\n", left + x / length * (right - left),
            bottom + 18, x);
  for (int i = 0; i < count; ++i) {
    const char *color = svg_colors[i + 2 < count ? i : i + 9 - count];
    fprintf(file, "<polyline clip-path=\"url(#frame)\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"",
            color);
    for (int x = 0; x < length; ++x)
      fprintf(file, "%.1f,%.1f ", left + (x + 1.0) / length * (right - left),
              bottom - (curves[i].values[x] - low) / (high - low) * (bottom - top));
    fprintf(file, "\"/>\n<path d=\"M%g %dh22\" stroke=\"%s\" stroke-width=\"3\"/><text x=\"%g\" y=\"%d\">%s</text>\n",
            right + 15, 60 + 22 * i, color, right + 43, 64 + 22 * i, curves[i].name);
  }
  fprintf(file, "</svg>\n");
  return fclose(file) == 0;
}

#endif
