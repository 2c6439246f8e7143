# JSON, as much as options and results need.

"Options as JSON: of keyword arguments, named tuples, dictionaries, arrays, numbers, texts, `true`, `nothing`."
json(text::Union{AbstractString,Symbol}) = string('"', escape(String(text)), '"')
json(::Nothing) = "null"
json(value::Bool) = string(value)
json(value::Integer) = string(value)
json(value::Real) = isfinite(value) ? string(Float64(value)) : throw(ArgumentError("options have no place for $value"))
json(values::Union{AbstractVector,Tuple}) = string('[', join((json(value) for value in values), ','), ']')
json(fields::Union{AbstractDict,NamedTuple,Base.Iterators.Pairs}) =
    string('{', join((string(json(String(name)), ':', json(value)) for (name, value) in pairs(fields)), ','), '}')

function escape(text::String)
    special(c) = c in ('"', '\\') ? string('\\', c) : c < ' ' ? string("\\u", string(UInt16(c); base=16, pad=4)) : string(c)
    return join(special(c) for c in text)
end

"What a JSON text says: `Dict`, `Vector`, `String`, `Float64` or `Int`, `Bool`, `nothing`."
function parse_json(text::AbstractString)
    value, _ = read_value(text, skip_space(text, 1))
    return value
end

skip_space(text, at) = something(findnext(!isspace, text, at), ncodeunits(text) + 1)

function read_value(text, at)
    for (word, value) in (("true", true), ("false", false), ("null", nothing))
        startswith(SubString(text, at), word) && return value, at + length(word)
    end
    text[at] == '"' && return read_text(text, at)
    if text[at] in "{["
        object, closing = text[at] == '{', text[at] == '{' ? '}' : ']'
        result = object ? Dict{String,Any}() : Any[]
        at = skip_space(text, at + 1)
        while text[at] != closing
            text[at] == ',' && (at = skip_space(text, at + 1))
            if object
                name, at = read_text(text, at)
                value, at = read_value(text, skip_space(text, skip_space(text, at) + 1))
                result[name] = value
            else
                value, at = read_value(text, at)
                push!(result, value)
            end
            at = skip_space(text, at)
        end
        return result, at + 1
    end
    number = match(r"-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?", text, at)
    # A seed may need all 64 bits.
    value = something(tryparse(Int64, number.match), tryparse(UInt64, number.match), parse(Float64, number.match))
    return value, at + ncodeunits(number.match)
end

function read_text(text, at)
    result = IOBuffer()
    at = nextind(text, at)
    while text[at] != '"'
        if text[at] == '\\'
            at = nextind(text, at)
            if text[at] == 'u'
                print(result, Char(parse(UInt16, SubString(text, at + 1, at + 4); base=16)))
                at += 4
            else
                print(result, get(Dict('n' => '\n', 't' => '\t', 'r' => '\r', 'b' => '\b', 'f' => '\f'), text[at], text[at]))
            end
        else
            print(result, text[at])
        end
        at = nextind(text, at)
    end
    return String(take!(result)), nextind(text, at)
end
