// What c10d's ProcessGroupGloo.hpp names of gloo, whose own headers are not in the wheel. Nothing here is instantiated.
#pragma once
