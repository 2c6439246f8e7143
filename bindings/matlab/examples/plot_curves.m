function plot_curves(file, names, curves, label)
%PLOT_CURVES  Plots the columns of CURVES against the epoch: in a figure, or as SVG in FILE without a display.

if exist('OCTAVE_VERSION', 'builtin')
    display = ~isempty(getenv('DISPLAY')) && ~isempty(available_graphics_toolkits());
else
    display = usejava('desktop');
end
if display
    figure();
    plot(curves);
    legend(names);
    xlabel('epoch');
    ylabel(label);
    return
end

colors = {'#d95319', '#7e2f8e', '#0072bd', '#77ac30'};
low = min(curves(:));
high = max(curves(:));
x = 60 + 560 * (0:size(curves, 1) - 1) / max(1, size(curves, 1) - 1);
out = fopen(file, 'w');
if out < 0
    error('plot_curves:file', '%s cannot be written', file);
end
fprintf(out, '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 400" font-family="sans-serif" font-size="13">\n');
fprintf(out, '<rect width="640" height="400" fill="white"/>\n<path d="M60 20V360H620" fill="none" stroke="black"/>\n');
fprintf(out, '<text x="340" y="390" text-anchor="middle">epoch (%d)</text>\n', size(curves, 1));
fprintf(out, '<text x="64" y="16">%s</text>\n', label);
fprintf(out, '<text x="55" y="30" text-anchor="end">%.3g</text>\n<text x="55" y="364" text-anchor="end">%.3g</text>\n', ...
    high, low);
for i = 1:numel(names)
    color = colors{mod(i - 1, numel(colors)) + 1};
    y = 360 - 335 * (curves(:, i)' - low) / max(eps, high - low);
    fprintf(out, '<polyline fill="none" stroke-width="2" stroke="%s" points="%s"/>\n', color, ...
        sprintf('%.1f,%.1f ', [x; y]));
    fprintf(out, '<text x="600" y="%d" text-anchor="end" fill="%s">%s</text>\n', 20 + 18 * i, color, names{i});
end
fprintf(out, '</svg>\n');
fclose(out);
fprintf('The learning curves are in %s\n', file);
end
