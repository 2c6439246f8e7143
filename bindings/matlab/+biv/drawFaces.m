function drawFaces(folder, varargin)
%biv.drawFaces  Draws simple faces whose age shows, in files named like UTKFace's, for tests and demonstrations.
%   biv.drawFaces(FOLDER, 'Count', 200, 'Size', 200, 'Seed', 0). FOLDER is created; it must be empty if it exists.

biv_mex('faces_draw', folder, biv.json(varargin{:}));
end
